"""Helpers that every rule shares: reading constants, attributes and origins of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.ops.nodes import constant as constant
from fastgan.ops.nodes import is_constant as is_constant

#: The domain of fused operators.
DOMAIN = "fastgan"

#: The fused operators: see `normal_form`.
PRODUCTS = ("Linear", "Conv", "ConvTranspose")

#: Those that have an epilogue: see `normalise` for the last one.
WITH_EPILOGUES = (*PRODUCTS, "Normalise")

#: In a pattern, a node with any further inputs and attributes; and such a fused one.
ANY = {"_allow_other_inputs": True, "_allow_other_attributes": True}
FUSED = {"_domain": DOMAIN, **ANY}


def is_float(value: ir.Value) -> bool:
    """Whether a value is of floating-point numbers, which are what fused operators compute in."""
    return value.dtype is not None and value.dtype.is_floating_point()


def shape(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value of a specialised graph."""
    assert value.shape is not None
    return tuple(value.shape.numpy())


def shaped(value: ir.Value, sizes: Sequence[int], type_: ir.TypeProtocol | None) -> ir.Value:
    """A value that a rewrite makes, told its shape and type: later rules ask for them."""
    value.shape, value.type = ir.Shape(tuple(sizes)), type_
    return value


def reshaped(op: Any, value: ir.Value, sizes: Sequence[int]) -> ir.Value:
    """A Reshape of a value to a static shape, in a rewrite; the value where that is its own."""
    if tuple(sizes) == shape(value):
        return value
    known = constant(value)
    if known is not None:
        made: ir.Value = op.initializer(ir.tensor(known.reshape(sizes)), name=f"{value.name}.as")
        return made
    target = op.initializer(ir.tensor(np.array(sizes, np.int64)), name=f"{value.name}.shape")
    return shaped(op.Reshape(value, target), sizes, value.type)


def producer(value: ir.Value) -> ir.Node:
    """The node that makes this value; a rule's pattern guarantees that there is one."""
    node = value.producer()
    assert node is not None
    return node


def origin(*nodes: ir.Node) -> list[str]:
    """The names of the ONNX nodes that these nodes came from, in order."""
    names: list[str] = []
    for node in nodes:
        recorded = node.attributes.get("origin")
        names += list(recorded.value) if recorded else [node.name or node.outputs[0].name or ""]
    return names


def attributes(node: ir.Node, **changes: Any) -> dict[str, Any]:
    """A node's attributes as keyword arguments for a rewrite, with some changed."""
    return {**{key: attr.value for key, attr in node.attributes.items()}, **changes}


def fused_inputs(node: ir.Node) -> list[ir.Value | None]:
    """x, weight, bias and residual of a fused node, None where left out."""
    return [*node.inputs, None, None, None][:4]


def all_inputs(node: ir.Node) -> list[ir.Value | None]:
    """x, weight, bias, residual, scale_in and scale_out of a fused node, None where left out."""
    return [*node.inputs, *[None] * 6][:6]


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a reduction reduces, from 0 on; None where data decide."""
    given, x = attributes(node), node.inputs[0]
    assert x is not None
    rank = len(shape(x))
    axes = given.get("axes")
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        known = constant(node.inputs[1])
        if known is None:
            return None
        axes = known.reshape(-1).tolist()
    if not axes:
        return () if given.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(int(axis) % rank for axis in axes))


def per_channel(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> bool:
    """Whether the array broadcasts to `shape` as one number, or as one for each channel."""
    aligned = (1,) * (len(shape) - array.ndim) + array.shape
    channels = (1, shape[1], *[1] * (len(shape) - 2))
    return len(aligned) == len(shape) and all(
        size in (1, whole) for size, whole in zip(aligned, channels, strict=True)
    )


def any_product(op: Any, name: str, bound_to: str) -> Any:
    """The pattern of a fused operator with any inputs and attributes."""
    return getattr(op, name)(**FUSED, _outputs=[bound_to])


def rebuild(op: Any, node: ir.Node, inputs: list[ir.Value | None], **changes: Any) -> Any:
    """A fused node like `node`, with these inputs and some attributes changed."""
    while inputs and inputs[-1] is None:
        inputs.pop()
    given = {**node.attributes, **typed(**changes)}
    return getattr(op, node.op_type)(*inputs, _domain=DOMAIN, **given)


def with_input(op: Any, product: ir.Value, position: int, given: ir.Value, out: ir.Value) -> Any:
    """The fused node that makes `product` with one more input, in place of what makes `out`."""
    node = producer(product)
    inputs = all_inputs(node)
    inputs[position] = given
    return rebuild(op, node, inputs, origin=origin(node, producer(out)))


def typed(**values: Any) -> dict[str, Any]:
    """Keyword arguments for a rewrite, lists with their type said: onnx_ir takes longer to find
    that out for itself than a rewrite does for all else.
    """
    return {
        name: _LISTS[type(value[0])](name, value)
        if isinstance(value, (list, tuple)) and value and type(value[0]) in _LISTS
        else value
        for name, value in values.items()
    }


_LISTS: dict[type, Callable[[str, Any], ir.Attr]] = {
    int: ir.AttrInt64s,
    float: ir.AttrFloat32s,
    str: ir.AttrStrings,
}
