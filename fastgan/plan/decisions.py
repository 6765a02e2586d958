"""What a graph decides by its batch: whether it does at every one what it does at two.

A graph may ask whether the batch is 1, take the lesser of it and 7, or count it by threes, and be
the same at the batches that are tried. What is compared follows the batch along a line, which two
batches give: they say whether anything is decided otherwise at another.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

#: No batch is larger.
MOST = 1 << 20
#: Of the sign of a difference, what a comparison says.
_COMPARISONS = {
    "Less": lambda sign: sign < 0,
    "LessOrEqual": lambda sign: sign <= 0,
    "Greater": lambda sign: sign > 0,
    "GreaterOrEqual": lambda sign: sign >= 0,
    "Sign": lambda sign: sign,
}
#: Where a difference is 0, both sides give the same.
_CHOICES = ("Min", "Max", "Clip", "Abs", "Relu")
_EQUALITIES = ("Equal", "Cast")  # to a boolean: whether it is not 0
_AGAINST_NOTHING = ("Abs", "Relu", "Sign", "Cast")
_DIVISIONS = ("Div", "Mod")
_ROUNDINGS = ("Ceil", "Floor", "Round")
#: Operators whose result is not on a line where their inputs are.
NAMES = frozenset((*_COMPARISONS, *_CHOICES, *_EQUALITIES, *_DIVISIONS, *_ROUNDINGS))


@dataclass(frozen=True, slots=True)
class Decision:
    """A node with what it is given, all of it known: of a Slice its bounds and what they cut."""

    node: ir.Node
    op: str
    inputs: tuple[Tensor, ...]


def decision(
    node: ir.Node, op: str, given: Sequence[Tensor | None], made: Tensor
) -> Decision | None:
    """What a node decides by known values; None where it decides nothing."""
    if op == "Slice":
        return _cut(node, given)
    tensors = tuple(tensor for tensor in given if tensor is not None)
    if op not in NAMES or any(tensor.is_meta for tensor in tensors):
        return None
    return None if op == "Cast" and made.dtype is not torch.bool else Decision(node, op, tensors)


def _cut(node: ir.Node, given: Sequence[Tensor | None]) -> Decision | None:
    """The lesser of a Slice's bounds and of the axes that they are of."""
    data, *bounds = given
    starts, ends, axes = (*bounds, None, None, None)[:3]
    if data is None or any(tensor is not None and tensor.is_meta for tensor in bounds):
        return None
    if not bounds:
        stated = (node.attributes.get(name) for name in ("starts", "ends", "axes"))
        starts, ends, axes = (None if a is None else torch.tensor(a.value) for a in stated)
    if starts is None or ends is None:
        return None
    along = range(len(starts)) if axes is None else axes.tolist()
    extents = torch.tensor([data.shape[axis] for axis in along] * 2)
    return Decision(node, "Min", (extents, torch.cat((starts.double(), ends.double())).abs()))


def same_at_any(few: Sequence[Decision], many: Sequence[Decision], sizes: tuple[int, int]) -> bool:
    """Whether these decisions, made at batches of two sizes, are made so at every batch."""
    if [decision.node for decision in few] != [decision.node for decision in many]:
        return False
    step = sizes[1] - sizes[0]
    return all(
        _same(one.op, one.inputs, other.inputs, sizes[0], step)
        for one, other in zip(few, many, strict=True)
    )


def _same(op: str, few: Sequence[Tensor], many: Sequence[Tensor], size: int, step: int) -> bool:
    if all(torch.equal(a, b) for a, b in zip(few, many, strict=True)):
        return True
    numbers = [[tensor.double() for tensor in given] for given in (few, many)]
    if op in _ROUNDINGS or op in _DIVISIONS:
        first, slope = _line(numbers[0][0], numbers[1][0], step)
        if op in _ROUNDINGS:
            return bool((first % 1 == 0).all() and (slope % 1 == 0).all())
        if op == "Div" and few[0].is_floating_point():
            return True
        return torch.equal(few[1], many[1]) and bool((slope % few[1].double() == 0).all())
    if op in _AGAINST_NOTHING:
        numbers = [[*given, torch.zeros(())] for given in numbers]
    for i, j in itertools.combinations(range(len(numbers[0])), 2):
        if op == "Clip" and i > 0:
            continue
        few_apart, many_apart = (given[i] - given[j] for given in numbers)
        first, slope = _line(few_apart, many_apart, step)
        alone, last = (first + slope * (n - size) for n in (1, MOST))
        signs = alone.sign(), last.sign()
        if op in _EQUALITIES:
            same = (slope == 0) | ((signs[0] == signs[1]) & (signs[0] != 0))
        elif op in _CHOICES:
            same = signs[0] * signs[1] >= 0
        else:
            same = _COMPARISONS[op](signs[0]) == _COMPARISONS[op](signs[1])
        if not bool(same.all()):
            return False
    return True


def _line(few: Tensor, many: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Values at the first size, and what each grows by; of those that grow in number the ends."""
    if few.shape != many.shape and few.numel() and many.numel():
        few, many = (torch.stack(torch.aminmax(values)) for values in (few, many))
    return few, (many - few) / step
