"""Recognises a norm that is written step by step: what it divides, by what, over which axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes


@dataclass(frozen=True, slots=True)
class Standardised:
    """gain * (x - mean) / sqrt(variance + epsilon); see `normalise` for `over` and `groups`."""

    x: ir.Value
    over: str
    groups: int
    centre: bool
    epsilon: float
    gain: float


def standardised(a: ir.Value, b: ir.Value, operator: str) -> Standardised | None:
    """What a / b or a * b is, if it is a norm: a centred (or not), b made of the variance.

    Args:
        a, b: the operands.
        operator: "Div" or "Mul".
    """
    whole = _through(b)
    variance = _root(whole) if operator == "Div" else _inverse_root(whole)
    if variance is None:
        return None
    # An exporter may drop an epsilon that the numbers' precision does not hold.
    variance = _through(variance)
    spread, epsilon = _binary_constant(variance, "Add") or (variance, 0.0)
    spread = _through(spread)
    factor = 1.0
    # The unbiased variance: times n, over n - 1.
    while (scaled := _binary_constant(spread, "Mul", "Div")) is not None:
        node = nodes.producer(spread)
        factor = factor * scaled[1] if node.op_type == "Mul" else factor / scaled[1]
        spread = _through(scaled[0])
    mean = _mean(spread)
    if mean is None:
        return None
    squares, axes, scale = mean
    factor *= scale
    squared = _square(squares)
    if squared is None or not factor > 0:
        return None
    rank = len(nodes.shape(squared))
    x, centre = _centred(a, axes), True
    if x is None:
        x, centre = a, False
    # Where the variance is of x - mean, so must be the dividend; the two may be separate nodes.
    if not (squared is a or (centre and _centred(squared, axes) is x)):
        return None
    # Axes that a reduction dropped have to be back in their places.
    if nodes.shape(b) != _reduced(nodes.shape(squared), axes):
        return None
    placed = _over(axes, rank, nodes.shape(x))
    if placed is None or epsilon < 0:
        return None
    # 1 / sqrt(factor * variance + epsilon)
    return Standardised(x, *placed, centre, epsilon / factor, factor**-0.5)


def _over(axes: tuple[int, ...], rank: int, shape: tuple[int, ...]) -> tuple[str, int] | None:
    if rank >= 2 and axes == (rank - 1,):
        return "last", 0
    if rank >= 3 and axes == tuple(range(2, rank)):
        return "space", shape[1]
    if rank >= 3 and axes == tuple(range(1, rank)):
        return "space", 1
    return ("channels", 0) if rank >= 3 and axes == (1,) else None


def _made_by(value: ir.Value, *operators: str) -> ir.Node | None:
    node = value.producer()
    return node if node is not None and not node.domain and node.op_type in operators else None


def _number(value: ir.Value | None) -> float | None:
    array = nodes.constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _binary_constant(value: ir.Value, *operators: str) -> tuple[ir.Value, float] | None:
    """The other operand and the number of an operator with one number; a quotient's is below."""
    node = _made_by(value, *operators)
    if node is None:
        return None
    first, second = node.inputs[:2]
    assert first is not None
    assert second is not None
    number = _number(second)
    if number is not None:
        return first, number
    number = _number(first)
    return None if number is None or node.op_type == "Div" else (second, number)


def _root(value: ir.Value) -> ir.Value | None:
    node = _made_by(value, "Sqrt", "Pow")
    if node is None or (node.op_type == "Pow" and _number(node.inputs[1]) != 0.5):
        return None
    return node.inputs[0]


def _inverse_root(value: ir.Value) -> ir.Value | None:
    node = _made_by(value, "Reciprocal", "Div", "Pow")
    if node is None:
        return None
    if node.op_type == "Pow":
        return node.inputs[0] if _number(node.inputs[1]) == -0.5 else None
    if node.op_type == "Div" and _number(node.inputs[0]) != 1.0:
        return None
    root = node.inputs[-1]
    return None if root is None else _root(root)


def _mean(value: ir.Value) -> tuple[ir.Value, tuple[int, ...], float] | None:
    """What a mean (or a sum, as so many times the mean) is of, its axes, and how many times."""
    node = _made_by(value, "ReduceMean", "ReduceSum")
    if node is None or node.inputs[0] is None:
        return None
    source, given = node.inputs[0], nodes.attributes(node)
    axes = given.get("axes")
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = nodes.constant(node.inputs[1])
        axes = None if array is None else array.reshape(-1).tolist()
    if not axes:
        return None
    shape = nodes.shape(source)
    places = tuple(sorted(int(axis) % len(shape) for axis in axes))
    count = int(np.prod([shape[axis] for axis in places]))
    return source, places, float(count) if node.op_type == "ReduceSum" else 1.0


def _square(value: ir.Value) -> ir.Value | None:
    node = _made_by(value, "Mul", "Pow")
    if node is None:
        return None
    if node.op_type == "Pow":
        return node.inputs[0] if _number(node.inputs[1]) == 2.0 else None
    return node.inputs[0] if node.inputs[0] is node.inputs[1] else None


def _centred(value: ir.Value, axes: tuple[int, ...]) -> ir.Value | None:
    """x where the value is x minus its mean over these axes."""
    node = _made_by(value, "Sub")
    if node is None or node.inputs[0] is None or node.inputs[1] is None:
        return None
    mean, x = _mean(_through(node.inputs[1])), node.inputs[0]
    if mean is None or mean[0] is not x or mean[1:] != (axes, 1.0):
        return None
    return x if nodes.shape(node.inputs[1]) == _reduced(nodes.shape(x), axes) else None


def _through(value: ir.Value) -> ir.Value:
    """What a value is before its axes of length 1 were put in or taken out."""
    while (node := _made_by(value, "Reshape", "Unsqueeze", "Squeeze")) is not None:
        source = node.inputs[0]
        assert source is not None
        value = source
    return value


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
