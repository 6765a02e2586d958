"""Helpers that every rule shares: reading constants, attributes and origins of nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

#: The domain of fused operators.
DOMAIN = "fastgan"

#: The fused operators: see `normal_form`.
PRODUCTS = ("Linear", "Conv", "ConvTranspose")

#: Those that have an epilogue: see `normalise` for the last one.
WITH_EPILOGUES = (*PRODUCTS, "Normalise")


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The data of an initializer, or None where the value depends on data or is left out."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def shape(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value of a specialised graph."""
    assert value.shape is not None
    return tuple(value.shape.numpy())


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


def per_channel(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> bool:
    """Whether the array broadcasts to `shape` as one number, or as one for each channel."""
    aligned = (1,) * (len(shape) - array.ndim) + array.shape
    channels = (1, shape[1], *[1] * (len(shape) - 2))
    return len(aligned) == len(shape) and all(
        size in (1, whole) for size, whole in zip(aligned, channels, strict=True)
    )


def any_product(op: Any, name: str, bound_to: str) -> Any:
    """The pattern of a fused operator with any inputs and attributes."""
    return getattr(op, name)(
        _domain=DOMAIN,
        _allow_other_inputs=True,
        _allow_other_attributes=True,
        _outputs=[bound_to],
    )


def rebuild(op: Any, node: ir.Node, inputs: list[ir.Value | None], **changes: Any) -> Any:
    """A fused node like `node`, with these inputs and some attributes changed."""
    while inputs and inputs[-1] is None:
        inputs.pop()
    given = {**node.attributes, **typed(**changes)}
    return getattr(op, node.op_type)(*inputs, _domain=DOMAIN, **given)


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
