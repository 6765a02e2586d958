"""What a graph does to its images first and last: arithmetic with constants, bounds, residuals."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.model.signature import Range
from fastgan.ops.registry import names

Numbers = np.ndarray[Any, np.dtype[np.float64]]

#: Ops that move values about without changing them.
MOVES = names("strided") | {"Cast", "DepthToSpace", "SpaceToDepth", "Dropout", "Tile"}
#: And those that leave an image an image of the same values, more or less.
_LIKE = MOVES | {
    *("Pad", "Round", "Floor", "Gather", "CastLike", "QuantizeLinear", "DequantizeLinear")
}
_RESIZES = frozenset({"Resize", "Upsample", "AveragePool"})
_BOUNDS: dict[str, Range] = {
    **dict.fromkeys(("Tanh", "Softsign", "Sin", "Cos"), (-1.0, 1.0)),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax"), (0.0, 1.0)),
}
_LONGEST = 100  # nodes followed from an input or an output: a bound for hostile graphs
_MASK = re.compile("mask(?!ed)")
_CHANNELS = 4  # as many numbers are one for each channel of an image
_LARGEST_CONSTANT = 1 << 16


@dataclass(frozen=True, slots=True)
class Affine:
    """scale * x + shift, one number for all channels or one for each."""

    scale: Numbers = field(default_factory=lambda: np.ones(1))
    shift: Numbers = field(default_factory=lambda: np.zeros(1))

    def then(self, after: Affine) -> Affine | None:
        """This first, then `after`; None where they are of different channels."""
        try:
            scale, shift = self.scale * after.scale, self.shift * after.scale + after.shift
        except ValueError:
            return None
        good = np.isfinite(scale).all() and np.isfinite(shift).all() and scale.all()
        return Affine(scale, shift) if good else None

    @property
    def plain(self) -> bool:
        """Whether it changes nothing."""
        return bool(np.allclose(self.scale, 1) and np.allclose(self.shift, 0))

    @property
    def zero(self) -> float:
        """The x that becomes 0, over the channels' mean."""
        return float(np.mean(-self.shift / self.scale))

    def of(self, span: Range) -> Range:
        """What becomes of a range, over all channels."""
        ends = np.concatenate([self.scale * end + self.shift for end in span])
        return float(ends.min()), float(ends.max())

    def back(self, span: Range) -> Range:
        """What becomes this range, over the channels' mean."""
        low, high = sorted(float(np.mean((end - self.shift) / self.scale)) for end in span)
        return low, high

    def __str__(self) -> str:
        scale, shift = map(_text, (self.scale, self.shift))
        product = "x" if scale == "1" else f"x * {scale}"
        return product if shift == "0" else f"{product} + {shift}"


def _text(row: Numbers) -> str:
    texts = [f"{n:.4g}" for n in row]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


@dataclass(frozen=True, slots=True)
class End:
    """How an output is made at last, followed back from it.

    Attributes:
        affine: from what is left when that can't be followed any further to the output.
        bounds: what a last activation or Clip keeps the output within.
        activation: the bounded activation that was met, before `affine`.
        source: (name of an input, what is done to it up to the output) where the output is that
            input plus something: a residual, or a blend by a mask.
        channels: of the image, where its last convolution or its shape tells.
    """

    affine: Affine = field(default_factory=Affine)
    bounds: Range | None = None
    activation: str | None = None
    source: tuple[str, Affine] | None = None
    channels: int | None = None


# Constants ---------------------------------------------------------------------------------------


def numbers(value: ir.Value | None) -> Numbers | None:
    """A constant as one number, or as one for each of up to 4 channels; else None."""
    for _ in range(8):
        if value is None:
            return None
        found = array(value)
        if found is not None:
            break
        node = value.producer()
        if node is None or node.op_type not in MOVES or not node.inputs:
            return None
        value = node.inputs[0]
    else:
        return None
    flat = found.reshape(-1)
    if flat.size == 0 or not np.isfinite(flat).all():
        return None
    if (flat == flat[0]).all():
        return flat[:1]
    return flat if flat.size <= _CHANNELS else None


def number(value: ir.Value | None) -> float | None:
    """The value of a constant of one element, else None."""
    found = None if value is None else array(value)
    return float(found.reshape(())) if found is not None and found.size == 1 else None


def array(value: ir.Value) -> Numbers | None:
    """The values of a constant that is not large; else None."""
    value = _itself(value)
    try:
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None or isinstance(tensor, ir.ExternalTensor):
            return None
        if tensor.size > _LARGEST_CONSTANT:
            return None
        return np.asarray(tensor.numpy()).astype(np.float64)
    except (TypeError, ValueError, OverflowError):  # a damaged constant, or one of strings
        return None


def _itself(value: ir.Value) -> ir.Value:
    """The constant that a value is: exporters share equal ones through Identity."""
    for _ in range(_LONGEST):
        node = value.producer()
        if node is None or node.op_type != "Identity" or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


# Single nodes ------------------------------------------------------------------------------------


def step(node: ir.Node, index: int) -> Affine | None:
    """What a node does to its input `index`, where that is arithmetic with constants; else None."""
    if node.domain not in ("", "ai.onnx"):
        return None
    op = node.op_type
    if op in ("Add", "Sub", "Mul", "Div") and len(node.inputs) == 2:
        other = numbers(node.inputs[1 - index])
        return None if other is None else _arithmetic(op, index, other)
    if index:
        return None
    if op in _LIKE:
        return Affine()
    if op == "Neg":
        return Affine(-np.ones(1))
    if op == "BatchNormalization":
        return _batch_norm(node)
    return _mean_shift(node) if op == "Conv" else None


def _arithmetic(op: str, index: int, other: Numbers) -> Affine | None:
    ones, zeros = np.ones_like(other), np.zeros_like(other)
    if op == "Add":
        return Affine(ones, other)
    if op == "Sub":
        return Affine(ones, -other) if index == 0 else Affine(-ones, other)
    if not other.all() or (op == "Div" and index == 1):
        return None
    return Affine(other if op == "Mul" else 1 / other, zeros)


def _batch_norm(node: ir.Node) -> Affine | None:
    """By what it has seen: the mean and the variance, not what it makes of them."""
    if len(node.inputs) < 5:
        return None
    mean, variance = numbers(node.inputs[3]), numbers(node.inputs[4])
    if mean is None or variance is None or not (variance > 0).all():
        return None
    return Affine().then(Affine(variance**-0.5, -mean * variance**-0.5))


def _mean_shift(node: ir.Node) -> Affine | None:
    """A 1x1 convolution that only shifts and scales each channel, as EDSR takes means away."""
    weight = None if len(node.inputs) < 2 or node.inputs[1] is None else array(node.inputs[1])
    if weight is None or weight.ndim != 4 or weight.shape[2:] != (1, 1):
        return None
    matrix = weight[:, :, 0, 0]
    channels = matrix.shape[0]
    if not 2 <= channels <= _CHANNELS or matrix.shape[1] != channels:
        return None
    if ((matrix != 0).sum(0) != 1).any() or ((matrix != 0).sum(1) != 1).any():
        return None
    given = len(node.inputs) > 2 and node.inputs[2] is not None
    shift = numbers(node.inputs[2]) if given else np.zeros(1)
    return None if shift is None else Affine(matrix.sum(1), np.broadcast_to(shift, channels))


def clip(node: ir.Node) -> tuple[float | None, float | None] | None:
    """The bounds that a node keeps its first input within; None where it is not one that does."""
    inputs = [*node.inputs, None, None]
    if node.op_type == "Clip":  # bounds were attributes up to opset 10, inputs since
        low = number(inputs[1]) if inputs[1] else node.attributes.get_float("min", None)
        high = number(inputs[2]) if inputs[2] else node.attributes.get_float("max", None)
        return low, high
    if node.op_type == "Relu":
        return 0.0, None
    if node.op_type in ("Min", "Max") and len(node.inputs) == 2:
        bound = number(node.inputs[1])
        return (bound, None) if node.op_type == "Max" else (None, bound)
    return None


# From an input on --------------------------------------------------------------------------------


def beginnings(value: ir.Value) -> Iterator[tuple[Affine, ir.Node, int]]:
    """Every way from an input through arithmetic: what is done, and the first other node's input.

    The nearest come first.
    """
    frontier = [(value, Affine())]
    for _ in range(_LONGEST):
        if not frontier:
            return
        value, done = frontier.pop(0)
        for node, index in value.uses():
            bounds = clip(node)
            here = Affine() if bounds or node.op_type == "Concat" else step(node, index)
            after = None if here is None else done.then(here)
            if bounds is not None or after is None:
                yield done, node, index
            if after is not None and len(frontier) < _LONGEST:
                frontier.extend((output, after) for output in node.outputs)


def origin(value: ir.Value | None) -> tuple[str, Affine] | None:
    """The graph's input that a value is, but for arithmetic with constants and its size."""
    done = Affine()
    for _ in range(_LONGEST):
        if value is None:
            return None
        node = value.producer()
        if node is None:
            known = value.is_graph_input() and not value.is_initializer()
            return (str(value.name), done) if known else None
        found = _back(node)
        after = None if found is None else found[1].then(done)
        if found is None or after is None:
            return None
        value, done = found[0], after
    return None


def _back(node: ir.Node) -> tuple[ir.Value, Affine] | None:
    """The one value that a node makes its output of by arithmetic with constants."""
    if node.domain not in ("", "ai.onnx") or not node.inputs or node.inputs[0] is None:
        return None
    same = node.op_type == "Concat" and len(set(node.inputs)) == 1
    if same or node.op_type in _RESIZES or clip(node) is not None:
        return node.inputs[0], Affine()
    for index, value in enumerate(node.inputs[:2]):
        if value is not None and numbers(value) is None:
            here = step(node, index)
            if here is not None:
                return value, here
    return None


# From an output back -----------------------------------------------------------------------------


def ending(value: ir.Value) -> End:
    """How an output is made at last."""
    end, low, high = End(channels=_declared_channels(value)), None, None
    for _ in range(_LONGEST):
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or not node.inputs:
            return replace(end, source=end.source or _straight(value, end))
        first = node.inputs[0]
        limits = clip(node)
        if limits is not None:
            low = _scaled(end, limits[0]) if low is None else low
            high = _scaled(end, limits[1]) if high is None else high
            if end.bounds is None and low is not None and high is not None and low != high:
                end = replace(end, bounds=(min(low, high), max(low, high)))
        elif node.op_type in _BOUNDS:
            span = end.affine.of(_BOUNDS[node.op_type])
            good = math.isfinite(sum(span)) and span[0] < span[1]
            bounds = end.bounds or (span if good else None)
            end = replace(end, bounds=bounds, activation=node.op_type)
            return replace(end, channels=end.channels or _made_channels(first))
        elif node.op_type != "Concat":
            found = _back(node)
            if found is None:
                channels = end.channels or _made_channels(node.outputs[0])
                source, made = (end.source, None) if end.source else _source(node, end)
                end = replace(end, source=source, channels=channels)
                if made is None:
                    return end
                found = made, Affine()
            first, here = found
            after = here.then(end.affine)
            if after is None:
                return end
            end = replace(end, affine=after)
        if first is None:
            return end
        value = first
    return end


def _straight(value: ir.Value, end: End) -> tuple[str, Affine] | None:
    """An output that is an input itself, but for arithmetic."""
    known = value.is_graph_input() and not value.is_initializer()
    return (str(value.name), end.affine) if known else None


def _scaled(end: End, bound: float | None) -> float | None:
    return None if bound is None else float(np.mean(end.affine.scale * bound + end.affine.shift))


def _source(node: ir.Node, end: End) -> tuple[tuple[str, Affine] | None, ir.Value | None]:
    """The input that a sum, or a choice by a mask, has among its terms, and what is done to it.

    And, where it is a choice, what stands in its place elsewhere.
    """
    if node.op_type == "Where" and len(node.inputs) == 3:
        terms = node.inputs[1:]
    elif node.op_type in ("Add", "Sub", "Sum"):
        terms = node.inputs
    else:
        return None, None
    for index, term in enumerate(terms):
        found = origin(term)
        if found is not None:
            whole = found[1].then(end.affine)
            other = terms[1 - index] if node.op_type == "Where" else None
            return (None if whole is None else (found[0], whole)), other
    pairs = [_masked(term) for term in terms]  # image * (1 - mask) + made * mask
    for index, pair in enumerate(pairs):
        found = None if pair is None else origin(pair)
        if found is not None and len(pairs) == 2:
            whole = found[1].then(end.affine)
            return (None if whole is None else (found[0], whole)), pairs[1 - index]
    return None, None


def _masked(term: ir.Value | None) -> ir.Value | None:
    """What a term has beside a mask that it is multiplied with."""
    node = None if term is None else term.producer()
    if node is None or node.op_type != "Mul" or len(node.inputs) != 2:
        return None
    found = [origin(value) for value in node.inputs]
    masks = [each is not None and bool(_MASK.search(each[0].lower())) for each in found]
    return node.inputs[masks.index(False)] if sum(masks) == 1 else None


def _declared_channels(value: ir.Value) -> int | None:
    dims = () if value.shape is None else value.shape.dims
    return dims[1] if len(dims) == 4 and isinstance(dims[1], int) else None


def _made_channels(value: ir.Value | None) -> int | None:
    """The channels of the convolution that a value is, through what changes none of them."""
    for _ in range(_LONGEST):
        node = None if value is None else value.producer()
        if node is None or not node.inputs:
            return None
        if node.op_type == "Conv" and len(node.inputs) > 1 and node.inputs[1] is not None:
            shape = _itself(node.inputs[1]).shape
            first = shape[0] if shape is not None and shape.rank() else None
            return first if isinstance(first, int) else None
        passes = node.op_type in _RESIZES or node.op_type in ("Slice", "Pad", "Identity", "Cast")
        if not passes:
            return None
        value = node.inputs[0]
    return None
