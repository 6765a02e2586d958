"""Sums, means and extremes over any axes as native operations."""

from __future__ import annotations

import math

from fastgan.engine.native.lowering import Lowering, unsupported
from fastgan.engine.native.records import Kind, record
from fastgan.plan import Step

#: As csrc/runtime/kernels/kernels.h numbers them.
_SUM, _ABSOLUTE, _SQUARES, _MAXIMUM, _MINIMUM = range(5)

#: What each operator folds, and whether it takes the root.
_FOLDS = {
    "ReduceSum": (_SUM, False),
    "ReduceMean": (_SUM, False),
    "GlobalAveragePool": (_SUM, False),
    "ReduceL1": (_ABSOLUTE, False),
    "ReduceSumSquare": (_SQUARES, False),
    "ReduceL2": (_SQUARES, True),
    "ReduceMax": (_MAXIMUM, False),
    "GlobalMaxPool": (_MAXIMUM, False),
    "ReduceMin": (_MINIMUM, False),
}

OPERATORS = tuple(_FOLDS)


def reduce(low: Lowering, step: Step) -> None:
    """Every operator of `OPERATORS`."""
    x = low.read(step.inputs[0])
    rank, gone = len(x.shape), _axes(low, step, len(x.shape))
    keeps = tuple(1 if i in gone else size for i, size in enumerate(x.shape))
    y = low.write(step.outputs[0], like=x.meta)
    target = y.of(y.meta.view(keeps)) if y.shape != keeps else y
    if 0 in x.shape:
        raise unsupported(step, "nothing to reduce")
    fold, root = _FOLDS[step.op]
    means = step.op in ("ReduceMean", "GlobalAveragePool")
    scale = 1 / math.prod(x.shape[i] for i in gone) if means else 1.0
    ways = list(zip(x.shape, x.strides, target.strides, strict=True))
    # Innermost is what lies side by side.
    kept = sorted((w for i, w in enumerate(ways) if i not in gone and w[0] > 1), key=_outer)
    away = sorted((w for i, w in enumerate(ways) if i in gone and w[0] > 1), key=_outer)
    one = [(1, 1, 1)]

    def make() -> bytes:
        groups = [[len(axes), axes] for axes in (kept or one, away or one)]
        return record(Kind.REDUCE, fold, root, scale, groups, x.place, target.place)

    if rank > 8:
        raise unsupported(step, f"{rank} axes")
    low.add(make, x, target)


def _outer(way: tuple[int, int, int]) -> int:
    return -way[1]


def _axes(low: Lowering, step: Step, rank: int) -> set[int]:
    if step.op.startswith("Global"):
        return set(range(2, rank))
    axes = step.attributes.get("axes")
    if len(step.inputs) > 1 and step.inputs[1]:
        axes = low.plan.weights[step.inputs[1]].flatten().tolist()
    if not axes:
        return set() if step.attributes.get("noop_with_empty_axes") else set(range(rank))
    return {axis % rank for axis in axes}
