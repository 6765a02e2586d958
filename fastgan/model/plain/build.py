"""What writes ONNX's own nodes in the place of another's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

#: A value, or None for an input that is left out.
Given = ir.Value | None


class CannotError(Exception):
    """A node that is not understood: it stays as it is, for a backend that knows it."""


class Builder:
    """The nodes that are to stand in one node's place.

    Attributes:
        node: that node.
        nodes, constants: what was made so far, in order.
        opset: of ONNX's own operators in this file.
    """

    def __init__(self, node: ir.Node, opset: int) -> None:
        self.node, self.opset = node, opset
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    # What the node has -----------------------------------------------------------------------

    def input(self, index: int) -> ir.Value:
        """An input that must be there."""
        value = self.optional(index)
        if value is None:
            raise CannotError(f"no input {index}")
        return value

    def optional(self, index: int) -> Given:
        """An input, or None."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def given(self, name: str, default: Any) -> Any:
        """An attribute's value, a string as text."""
        attribute = self.node.attributes.get(name)
        value = default if attribute is None else attribute.value
        return value.decode() if isinstance(value, bytes) else value

    def only(self, *names: str) -> None:
        """Raises CannotError where the node has an attribute that is none of these."""
        if unknown := set(self.node.attributes) - set(names):
            raise CannotError(f"attributes {sorted(unknown)}")

    def attributes(self, names: Collection[str]) -> dict[str, Any]:
        """Those of these attributes that the node has."""
        return {name: self.given(name, None) for name in names if name in self.node.attributes}

    # What is put in its place ----------------------------------------------------------------

    def __call__(self, op: str, *inputs: Given, domain: str = "", **attributes: Any) -> ir.Value:
        """One more node; returns its output."""
        return self.several(op, *inputs, outputs=1, domain=domain, **attributes)[0]

    def several(
        self, op: str, *inputs: Given, outputs: int, domain: str = "", **attributes: Any
    ) -> Sequence[ir.Value]:
        """One more node; returns its outputs."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        converted = ir.convenience.convert_attributes(attributes)
        node = ir.Node(domain, op, given, converted, num_outputs=outputs)
        stem = self.node.name or self.node.outputs[0].name or self.node.op_type
        node.name = f"{stem}.{len(self.nodes)}.{op}"
        for index, value in enumerate(node.outputs):
            value.name = f"{self.node.outputs[0].name}.{len(self.nodes)}.{index}"
        self.nodes.append(node)
        return node.outputs

    def constant(self, array: Array, name: str) -> ir.Value:
        """A new weight of the graph."""
        return self.weight(ir.Tensor(np.array(array, order="C")), name)

    def weight(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """The same, of a tensor without a name."""
        graph = self.node.graph
        assert graph is not None
        stem = name = f"{self.node.outputs[0].name}.{name}"
        while name in graph.initializers:
            name = f"{stem}.{len(graph.initializers)}"
        kind = ir.TensorType(tensor.dtype)
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
        graph.initializers.add(value)
        self.constants.append(value)
        return value

    def number(self, number: float, like: ir.Value, name: str) -> ir.Value:
        """A scalar of the type that `like` has; where the file does not tell it, found later."""
        dtype = like.dtype or ir.DataType.FLOAT
        scalar = self.constant(np.asarray(number, dtype.numpy()), name)
        if like.dtype is None and self.opset >= 15:
            return self("CastLike", scalar, like)
        return scalar

    def integers(self, *numbers: int) -> ir.Value:
        """A constant list."""
        return self.constant(np.array(numbers, np.int64), "numbers")

    def slice(self, x: ir.Value, start: int, end: int, axis: int) -> ir.Value:
        """Slice, whose bounds became inputs with opset 10."""
        if self.opset < 10:
            return self("Slice", x, starts=[start], ends=[end], axes=[axis])
        return self("Slice", x, *(self.integers(n) for n in (start, end, axis)))

    def clip(self, x: ir.Value, low: float, high: float) -> ir.Value:
        """Clip, whose bounds became inputs with opset 11."""
        if self.opset < 11:
            return self("Clip", x, min=float(low), max=float(high))
        bounds = self.number(low, x, "low"), self.number(high, x, "high")
        return self("Clip", x, *bounds)

    def channels_first(self, x: ir.Value, rank: int) -> ir.Value:
        """[n, *size, C] -> [n, C, *size]."""
        return self("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])

    def channels_last(self, x: ir.Value, rank: int) -> ir.Value:
        """[n, C, *size] -> [n, *size, C]."""
        return self("Transpose", x, perm=[0, *range(2, rank), 1])


def array(value: Given) -> Array:
    """The elements of a constant.

    Raises:
        CannotError: it is none.
    """
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None:
        raise CannotError("no constant")
    return np.asarray(tensor.numpy())


def rank(*values: Given) -> int:
    """How many axes the first of these has whose shape is known.

    Raises:
        CannotError: none is.
    """
    for value in values:
        if value is not None and value.const_value is not None:
            return len(value.const_value.shape)
        if value is not None and value.shape is not None:
            return len(value.shape)
    raise CannotError("an unknown rank")


#: Makes a node's outputs of its inputs with a builder.
Converter = Callable[[Builder], "ir.Value | Sequence[ir.Value]"]
