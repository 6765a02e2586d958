"""Products of tensors that depend on data as native operations: MatMul and Einsum."""

from __future__ import annotations

import math
from dataclasses import replace

from fastgan.engine.native import layers
from fastgan.engine.native.lowering import Lowering, unsupported
from fastgan.engine.native.records import Kind, record
from fastgan.engine.native.tensors import View, new, plain
from fastgan.plan import Step
from fastgan.plan.weights import meta_of

#: Columns of a matrix are packed in blocks of so many at most.
_MOST_LANES = 32

#: So few columns of each of several matrices leave most of a block empty; for so few rows packing
#: takes longer than the product.
_FEW = 4


def product(low: Lowering, step: Step) -> None:
    """MatMul of two tensors that depend on data, or of one."""
    a, weight = low.read(step.inputs[0]), None
    if step.inputs[1] in low.plan.weights:
        weight = meta_of(low.plan.weights, step.inputs[1])
    if weight is None or weight.dim() != 2:
        b = low.read(step.inputs[1])
        weight = None
    if len(a.shape) < 2 or (weight is None and len(b.shape) < 2):
        raise unsupported(step, "a product with a vector")
    y = low.write_rows(step.outputs[0])
    if weight is not None:
        # Packed once: rows by a weight are what a linear map is.
        a = low.rows(a)
        rows, sums = (v.of(v.meta.view(-1, v.shape[-1])) for v in (a, y))
        layers.dense(low, replace(step, op="fastgan.Linear"), low.plan, rows, sums, None, None)
    else:
        multiply(low, a, b, y, y.shape[:-2])


def multiply(low: Lowering, a: View, b: View, y: View, batch: tuple[int, ...]) -> None:
    """Matrices [*batch, rows, inner] by [*batch, inner, columns]."""
    count = math.prod(batch)
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    if inner == 1:  # each element is a product of two
        by = ("mul", 0.0, 1, -1, -1)
        low.pointwise([("load", 0.0, 0, -1, -1), by], [a, b], y)
        return
    several = math.prod(b.shape[:-2]) > 1
    if several and (columns <= _FEW or (rows <= _FEW and b.meta.stride(-2) == 1)):
        _dots(low, a, b, y, batch)
        return
    a, b = (
        _batched(low, view, batch, inner_is_last) for view, inner_is_last in ((a, True), (b, False))
    )
    # How wide its blocks are, the processor says: here is room for the widest.
    wide = -(-columns // _MOST_LANES) * _MOST_LANES
    packed = new(plain((b.shape[0], inner, wide)))

    def pack() -> bytes:
        sizes = (b.shape[0], inner, columns)
        return record(Kind.PACK, sizes, b.meta.stride(), b.place, packed.place)

    low.add(pack, b, packed)
    image, row, _ = a.strides

    def make() -> bytes:
        return record(
            Kind.MATRICES,
            count,
            rows,
            inner,
            columns,
            image,
            row,
            b.shape[0] == 1,
            a.place,
            y.place,
            packed.place,
        )

    low.add(make, a, y, packed)


def _dots(low: Lowering, a: View, b: View, y: View, batch: tuple[int, ...]) -> None:
    """Many matrices: each element is the product of two rows."""
    inner, columns = b.shape[-2:]
    a = _batched(low, a, batch, True)
    b = _batched(low, b.of(b.meta.transpose(-1, -2)), batch, True)
    sizes = (a.shape[0], a.shape[1], inner, columns)
    strides = (*a.strides[:2], *b.strides[:2])

    def make() -> bytes:
        return record(Kind.DOTS, sizes, strides, a.place, b.place, y.place)

    low.add(make, a, b, y)


def einsum(low: Lowering, step: Step) -> None:
    """Einsum of two tensors: a product of matrices, between other orders of the axes."""
    given, _, made = step.attributes["equation"].replace(" ", "").partition("->")
    axes = given.split(",")
    sizes: dict[str, int] = {}
    for letters, name in zip(axes, step.inputs, strict=True):
        sizes |= dict(zip(letters, low.read(name).shape, strict=True))
    once = all(len(set(letters)) == len(letters) for letters in (*axes, made))
    everywhere = set(made).union(*(set(one) & set(axes[-1]) for one in axes))
    if len(axes) != 2 or "." in given or not once or everywhere != set("".join(axes)):
        raise unsupported(step, f"an Einsum of {step.attributes['equation']}")
    left, right = axes
    batch = [x for x in made if x in left and x in right]
    rows = [x for x in left if x in made and x not in right]
    columns = [x for x in right if x in made and x not in left]
    inner = [x for x in left if x not in made]
    groups = ((left, rows, inner), (right, inner, columns))
    a, b = (
        _grouped(low, low.read(name), letters, batch, first, second)
        for name, (letters, first, second) in zip(step.inputs, groups, strict=True)
    )
    every = (*batch, *rows, *columns)
    y = new(plain([sizes[x] for x in every]))
    shape = (*(sizes[x] for x in batch), a.shape[-2], b.shape[-1])
    multiply(low, a, b, y.of(y.meta.view(shape)), shape[:-2])
    low.name(step.outputs[0], y.of(y.meta.permute([every.index(x) for x in made])))


def _grouped(
    low: Lowering, view: View, letters: str, batch: list[str], first: list[str], second: list[str]
) -> View:
    """[*batch, product of the first, product of the second]."""
    meta = view.meta.permute([letters.index(x) for x in (*batch, *first, *second)])
    count = len(batch)
    rows, columns = meta.shape[count : count + len(first)], meta.shape[count + len(first) :]
    shape = (*meta.shape[:count], math.prod(rows), math.prod(columns))
    try:
        return view.of(meta.view(shape))
    except RuntimeError:
        made = low.rows(view.of(meta))
        return made.of(made.meta.view(shape))


def _batched(low: Lowering, view: View, batch: tuple[int, ...], rows_only: bool) -> View:
    """[matrices, rows, columns]; one matrix for all where that is so."""
    shape = view.shape[-2:]
    if math.prod(view.shape[:-2]) == 1:
        view = view.of(view.meta.reshape(1, *shape))
        if rows_only:
            view = view.of(view.meta.expand(math.prod(batch), *shape))
    else:
        wide = view.of(view.meta.expand(*batch, *shape))
        try:
            view = wide.of(wide.meta.view(-1, *shape))
        except RuntimeError:
            made = new(plain(wide.shape))
            low.copy(wide, made)
            view = made.of(made.meta.view(-1, *shape))
    if rows_only and view.shape[2] > 1 and view.meta.stride(2) != 1:
        view = low.rows(view)
    return view
