"""Reshapes that only rename what is there: merged, and moved down until they meet their inverse.

Where samples lie side by side as channels, or every channel as a sample of its own, a filter or a
padding in between does the same on plain images [N, C, H, W].
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.ops.registry import names
from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.addressing import padding
from fastgan.plan.rewrite.rules.rule import OfAny, Rule

_VIEWS = (*sorted(names("view") - {"Identity"}), "Transpose")


def _is_view(node: ir.Node | None) -> bool:
    """Whether a node leaves the order of the elements alone."""
    if node is None or node.domain or node.op_type not in _VIEWS:
        return False
    if node.op_type != "Transpose":
        return True
    source = node.inputs[0]
    assert source is not None
    sizes = nodes.shape(source)
    perm = nodes.attributes(node).get("perm") or range(len(sizes))[::-1]
    moved = [axis for axis in perm if sizes[axis] != 1]
    return moved == sorted(moved)


def _source(value: ir.Value) -> ir.Value:
    """What a value is a view of, through any number of views."""
    node = value.producer()
    while node is not None and _is_view(node):
        assert node.inputs[0] is not None
        value = node.inputs[0]
        node = value.producer()
    return value


class MergeViews(OfAny):
    """A view of a view -> one Reshape, or nothing."""

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(out)
        if not _is_view(node):
            return "it moves elements"
        source = _source(x)
        whole = nodes.shape(source) == nodes.shape(out)
        if source is x and not whole and node.op_type != "Transpose":
            return "a single view"
        if nodes.is_constant(source):
            return "a constant"
        return None

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        source = _source(x)
        if nodes.shape(source) == nodes.shape(out):
            return op.Identity(source)
        return nodes.reshaped(op, source, nodes.shape(out))


def _view_of(value: ir.Value) -> ir.Value | None:
    """The data that a value is a view of, or None where it is none."""
    source = _source(value)
    return None if source is value or nodes.is_constant(source) else source


class SinkBelowPad(Rule):
    """Pad(view of x) -> view of Pad(x), where the axes that it pads are axes of x too."""

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Pad(x, **nodes.ANY, _outputs=["out"])

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        source = _view_of(x)
        if source is None:
            return "no view"
        if self._pads(source, x, out) is None:
            return "it pads otherwise than with zeros, or axes that only the view has"
        return None

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        source = _view_of(x)
        assert source is not None
        pads = self._pads(source, x, out)
        assert pads is not None
        if not any(begin or end for begin, end in pads):
            return nodes.reshaped(op, source, nodes.shape(out))
        flat = np.array([b for b, _ in pads] + [e for _, e in pads], np.int64)
        target = op.initializer(ir.tensor(flat), name=f"{out.name}.pads")
        sizes = [s + b + e for s, (b, e) in zip(nodes.shape(source), pads, strict=True)]
        padded = nodes.shaped(op.Pad(source, target), sizes, x.type)
        return nodes.reshaped(op, padded, nodes.shape(out))

    @staticmethod
    def _pads(source: ir.Value, x: ir.Value, out: ir.Value) -> list[tuple[int, int]] | None:
        """(begin, end) of each axis of `source`; None where they can't be said of it."""
        mode, pads = padding(nodes.producer(out), len(nodes.shape(x)))
        if mode != "constant" or pads is None:
            return None
        # An axis is the same one if it is as long, and as much lies before it.
        old = _positions(nodes.shape(source))
        result = [(0, 0)] * len(nodes.shape(source))
        for axis, (key, pair) in enumerate(zip(_keys(nodes.shape(x)), pads, strict=True)):
            if pair == (0, 0):
                continue
            if key not in old or nodes.shape(x)[axis] == 1:
                return None
            result[old[key]] = pair
        return result


def _keys(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(elements before, length) of each axis."""
    before = [1, *accumulate(shape, mul)][: len(shape)]
    return list(zip(before, shape, strict=True))


def _positions(shape: tuple[int, ...]) -> dict[tuple[int, int], int]:
    return {key: axis for axis, key in enumerate(_keys(shape))}


class SinkBelowFilter(Rule):
    """A depthwise Conv with one kernel for all channels, of a view of images -> of the images."""

    def pattern(self, op: Any, x: Any, weight: Any) -> Any:
        return op.Conv(x, weight, _allow_other_attributes=True, _outputs=["out"])

    def refuses(self, x: ir.Value, weight: ir.Value, out: ir.Value) -> str | None:
        source = _view_of(x)
        if source is None or not nodes.is_constant(weight):
            return "no view, or the weight depends on data"
        rank, channels = len(nodes.shape(x)), nodes.shape(x)[1]
        group = nodes.attributes(nodes.producer(out)).get("group", 1)
        if group != channels or nodes.shape(weight)[:2] != (channels, 1):
            return "not a filter for every channel"
        kernel = nodes.constant(weight)  # only now: a large one is read from the file
        if kernel is None or not (kernel == kernel[:1]).all():
            return "not one filter for every channel"
        images = nodes.shape(source)
        if len(images) != rank or images[2:] != nodes.shape(x)[2:] or images[:2] == (1, 1):
            return "the view is not of images of the same size"
        return None

    def rewrite(self, op: Any, x: ir.Value, weight: ir.Value, out: ir.Value) -> Any:
        source, kernel, node = _view_of(x), nodes.constant(weight), nodes.producer(out)
        assert source is not None
        assert kernel is not None
        images, channels = nodes.shape(source)[:2]
        repeated = np.repeat(kernel[:1], channels, axis=0)
        filters = op.initializer(ir.tensor(repeated), name=f"{out.name}.filters")
        changes = {**node.attributes, "group": ir.AttrInt64("group", channels)}
        y = op.Conv(source, filters, **changes)
        y = nodes.shaped(y, [images, channels, *nodes.shape(out)[2:]], x.type)
        return nodes.reshaped(op, y, nodes.shape(out))


class SinkBelowUnary(Rule):
    """f(rows with more axes of length 1) -> the same of the rows."""

    def pattern(self, op: Any, x: Any) -> Any:
        return getattr(op, self.of)(x, _outputs=["out"])

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        return None if _rows(x) else "no view of rows"

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        rows = _source(x)
        y = nodes.shaped(getattr(op, self.of)(rows), nodes.shape(rows), x.type)
        return nodes.reshaped(op, y, nodes.shape(out))


class SinkBelowNumber(Rule):
    """f(rows with more axes of length 1, a number) -> the same of the rows.

    Args:
        operator: Add or Div.
        number_first: whether the number is the first operand.
    """

    def __init__(self, operator: str, number_first: bool) -> None:
        super().__init__(operator)
        self.number_first = number_first

    def pattern(self, op: Any, x: Any, number: Any) -> Any:
        operands = (number, x) if self.number_first else (x, number)
        return getattr(op, self.of)(*operands, _outputs=["out"])

    def refuses(self, x: ir.Value, number: ir.Value, out: ir.Value) -> str | None:
        constant = nodes.constant(number)
        if constant is None or constant.size != 1 or nodes.shape(out) != nodes.shape(x):
            return "the other operand is no number"
        return None if _rows(x) else "no view of rows"

    def rewrite(self, op: Any, x: ir.Value, number: ir.Value, out: ir.Value) -> Any:
        rows, constant = _source(x), nodes.constant(number)
        assert constant is not None
        scalar = op.initializer(ir.tensor(constant.reshape(())), name=f"{out.name}.number")
        operands = (scalar, rows) if self.number_first else (rows, scalar)
        y = nodes.shaped(getattr(op, self.of)(*operands), nodes.shape(rows), x.type)
        return nodes.reshaped(op, y, nodes.shape(out))


def _rows(x: ir.Value) -> bool:
    """Whether a value is rows of data, seen with more axes of length 1."""
    rows = _view_of(x)
    if rows is None or len(nodes.shape(rows)) != 2:
        return False
    return nodes.shape(x) == (*nodes.shape(rows), *[1] * (len(nodes.shape(x)) - 2))


RULES = (
    *(MergeViews.rule(operator) for operator in _VIEWS),
    SinkBelowPad.rule(),
    SinkBelowFilter.rule(),
    *(SinkBelowUnary.rule(operator) for operator in ("Sqrt", "Reciprocal")),
    SinkBelowNumber.rule("Add", False),
    SinkBelowNumber.rule("Div", True),
)
