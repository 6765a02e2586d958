"""graph + input shapes -> static graph, in one forward walk over the op registry.

A node whose inputs are all known is evaluated, within a size limit. A node that depends on data is
run on `meta` tensors, which hold a shape and a dtype but no elements. `Shape` of either is known.
So every shape chain, mask and exporter artefact folds in linear time, and there is no separate
shape inference to keep in step with the ops.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from fastgan import ops
from fastgan.errors import UnsupportedError
from fastgan.ops.elementwise import onnx_dtype, torch_dtype

#: A constant larger than this many bytes stays a node of the graph: it is cheaper to compute than
#: to keep, and a hostile file can't make `load` allocate more than this for one node.
FOLD_LIMIT_BYTES = 64 << 20

#: Ops that pass their first input on unchanged when a model runs.
_ALIASES = {"Identity", "Dropout"}


def specialise(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """A copy of `model` for these input shapes, with every value's shape and dtype static.

    Args:
        model: any checked model; it is not changed.
        shapes: the shape of each graph input, by name.

    Returns:
        A model in which every node depends on data and is needed for an output; all else is an
        initializer. Weights are shared with `model`, not copied.

    Raises:
        UnsupportedError: for an op that is not registered, an attribute that its function does not
            know, a shape that depends on data, or inputs that do not fit the op.
    """
    return _Walk(model, shapes).run()


class _Walk:
    def __init__(self, model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.model = model
        self.shapes = shapes
        self.opset = model.opset_imports
        # What each value of the old graph is: a tensor with data, or a meta tensor.
        self.tensors: dict[ir.Value, Tensor] = {}
        # Its counterpart in the new graph; a known value gets one when it is first needed.
        self.values: dict[ir.Value, ir.Value] = {}
        self.initializers: list[ir.Value] = []
        self.nodes: list[ir.Node] = []

    def run(self) -> ir.Model:
        old = self.model.graph
        inputs = []
        for value in old.inputs:
            if value.name in old.initializers:
                continue  # an initializer that may be overridden; here it is not
            dtype = torch_dtype(value.dtype or ir.DataType.FLOAT)
            shape = self.shapes[value.name or ""]
            self.tensors[value] = torch.empty(shape, dtype=dtype, device="meta")
            inputs.append(self._new_value(value, value.name or ""))
        for node in old:
            self._visit(node)
        outputs = [self._output(value) for value in old.outputs]
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._needed(outputs),
            initializers=self.initializers,
            opset_imports=dict(old.opset_imports),
            name=old.name,
        )
        return ir.Model(graph, ir_version=self.model.ir_version)

    # One node ---------------------------------------------------------------------------------

    def _visit(self, node: ir.Node) -> None:
        inputs = [None if value is None else self._tensor(value) for value in node.inputs]
        if node.domain == "" and node.op_type in _ALIASES and inputs[0] is not None:
            self._alias(node)
            return
        op, attributes = resolve(node, self.opset)
        arguments = bind_host_inputs(node, op, inputs)
        results = _evaluate(node, op, arguments, attributes)
        for value, result in zip(node.outputs, results, strict=False):
            self.tensors[value] = result
        if any(result.is_meta for result in results):
            self._keep(node, len(results))

    def _alias(self, node: ir.Node) -> None:
        source = node.inputs[0]
        assert source is not None
        self.tensors[node.outputs[0]] = self._tensor(source)
        self.values[node.outputs[0]] = self._value(source)

    def _keep(self, node: ir.Node, outputs: int) -> None:
        new_inputs = [None if value is None else self._value(value) for value in node.inputs]
        new_outputs = [self._new_value(v, v.name or "") for v in node.outputs[:outputs]]
        self.nodes.append(
            ir.Node(
                node.domain,
                node.op_type,
                new_inputs,
                node.attributes.values(),
                outputs=new_outputs,
                name=node.name,
            )
        )

    # Values -----------------------------------------------------------------------------------

    def _tensor(self, value: ir.Value) -> Tensor:
        if value not in self.tensors:
            if value.const_value is None:
                raise UnsupportedError(f"value {value.name!r}", "no definition", "a known value")
            self.tensors[value] = to_torch(value.const_value)
        return self.tensors[value]

    def _value(self, value: ir.Value) -> ir.Value:
        if value not in self.values:
            new = self._new_value(value, value.name or "")
            new.const_value = (
                value.const_value
                if value.const_value is not None
                else to_onnx(self.tensors[value], new.name)
            )
            self.initializers.append(new)
        return self.values[value]

    def _new_value(self, value: ir.Value, name: str) -> ir.Value:
        tensor = self.tensors[value]
        new = ir.Value(
            name=name,
            shape=ir.Shape(tuple(tensor.shape)),
            type=ir.TensorType(onnx_dtype(tensor.dtype)),
        )
        self.values[value] = new
        return new

    def _output(self, value: ir.Value) -> ir.Value:
        """The new graph's output; an output that is an input or a constant gets an Identity."""
        new = self._value(value)
        if new.producer() is not None and new.name == value.name:
            return new
        node = ir.Node("", "Identity", [new], num_outputs=1)
        node.outputs[0].name = value.name
        node.outputs[0].shape, node.outputs[0].type = new.shape, new.type
        if new.name == value.name:
            new.name = f"{value.name}.source"
        self.nodes.append(node)
        return node.outputs[0]

    def _needed(self, outputs: list[ir.Value]) -> list[ir.Node]:
        """The nodes that an output depends on, in order; the others let go of their inputs."""
        live = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if live.isdisjoint(node.outputs):
                for index in range(len(node.inputs)):
                    node.replace_input_with(index, None)
                continue
            live.update(value for value in node.inputs if value is not None)
            kept.append(node)
        self.initializers = [value for value in self.initializers if value in live]
        return kept[::-1]


# What the planner shares with the walk -------------------------------------------------------


def resolve(node: ir.Node, opset_imports: Mapping[str, int]) -> tuple[ops.Op, dict[str, Any]]:
    """The registered op of a node, and its attributes as Python values.

    Raises:
        UnsupportedError: where the op or one of the attributes is not known.
    """
    version = node.version or opset_imports.get(node.domain, 1)
    op = ops.find(node.domain, node.op_type, version)
    name = f"{node.domain + '.' if node.domain else ''}{node.op_type}"
    if op is None:
        raise UnsupportedError(
            where(node), f"op {name} of opset {version}", "an op listed in docs/operators.md"
        )
    attributes = {key: attribute_value(attr) for key, attr in node.attributes.items()}
    unknown = sorted(set(attributes) - op.attributes)
    if unknown:
        raise UnsupportedError(
            where(node),
            f"attribute {unknown[0]!r} of {name}",
            f"one of {', '.join(sorted(op.attributes)) or 'none'}",
        )
    return op, attributes


def bind_host_inputs(
    node: ir.Node, op: ops.Op, inputs: list[Tensor | None]
) -> list[Tensor | Any | None]:
    """The inputs with those that the op needs on the host turned into Python values."""
    bound: list[Tensor | Any | None] = list(inputs)
    for index in op.host:
        tensor = inputs[index] if index < len(inputs) else None
        if tensor is None:
            continue
        if tensor.is_meta:
            raise UnsupportedError(
                where(node),
                f"input {index} of {node.op_type} computed from the data",
                "a constant or a shape",
            )
        bound[index] = tensor.tolist()
    return bound


def where(node: ir.Node) -> str:
    """How messages name a node."""
    return f"node {node.name or node.outputs[0].name!r}"


def attribute_value(attribute: ir.Attr) -> Any:
    """An ONNX attribute as a Python value; a tensor becomes a torch tensor."""
    if attribute.type == ir.AttributeType.TENSOR:
        return to_torch(attribute.as_tensor())
    return attribute.value


def to_torch(tensor: ir.TensorProtocol) -> Tensor:
    """The data of an ONNX tensor as a CPU tensor, without a copy where that is possible."""
    if tensor.dtype == ir.DataType.BFLOAT16:
        bits = np.ascontiguousarray(tensor.numpy()).view(np.int16)
        return torch.from_numpy(bits.copy()).view(torch.bfloat16)
    try:
        torch_dtype(tensor.dtype)
    except KeyError:
        raise UnsupportedError(
            f"tensor {tensor.name!r}", f"element type {tensor.dtype}", "a number or a boolean"
        ) from None
    with warnings.catch_warnings():
        # The bytes of the file are read-only, and so is every use of the tensor: no copy needed.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(tensor.numpy()).reshape(tuple(tensor.shape)))


def to_onnx(tensor: Tensor, name: str | None) -> ir.TensorProtocol:
    """A CPU tensor as the data of an ONNX initializer."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return ir.Tensor(tensor.contiguous().numpy(), name=name)


def _evaluate(
    node: ir.Node, op: ops.Op, arguments: list[Any], attributes: dict[str, Any]
) -> tuple[Tensor, ...]:
    """The node's outputs: with data where all inputs are known and the result is small."""
    known = not any(isinstance(a, Tensor) and a.is_meta for a in arguments)
    meta = _call(node, op, op.infer, arguments, attributes, "meta")
    if known and sum(t.numel() * t.element_size() for t in meta) <= FOLD_LIMIT_BYTES:
        return _call(node, op, op.function, arguments, attributes, "cpu")
    return meta


def _call(
    node: ir.Node,
    op: ops.Op,
    function: Callable[..., Any],
    arguments: list[Any],
    attributes: dict[str, Any],
    device: str,
) -> tuple[Tensor, ...]:
    def move(argument: Any) -> Any:
        return argument.to(device) if isinstance(argument, Tensor) else argument

    try:
        with torch.device(device):
            result = function(*map(move, arguments), **{k: move(v) for k, v in attributes.items()})
    except UnsupportedError:
        raise
    except Exception as error:  # whatever torch says of inputs that do not fit
        shapes = [tuple(a.shape) if isinstance(a, Tensor) else a for a in arguments]
        raise UnsupportedError(
            where(node), f"inputs {shapes} ({_first_line(error)})", f"inputs that fit {op.name}"
        ) from error
    return result if isinstance(result, tuple) else (result,)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
