"""A node of the graph as a call of its op, and tensors from ONNX to torch and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from fastgan.errors import UnsupportedError
from fastgan.ops.elementwise import torch_dtype
from fastgan.ops.registry import Op, find

#: Elements of an input that an op takes as Python values.
MAX_HOST_ELEMENTS = 1 << 16
#: What torch can hold but hardly compute in.
_UNSIGNED = frozenset((torch.uint16, torch.uint32, torch.uint64))
#: A read-only tensor up to this size is copied, which is faster than silencing torch's warning.
_COPY_BYTES = 4096


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The data of an initializer; None where the value depends on data or is left out."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Whether there is such data; nobody reads them for that."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def resolve(node: ir.Node, opset_imports: Mapping[str, int]) -> tuple[Op, dict[str, Any]]:
    """The registered op of a node, and its attributes as Python values.

    Raises:
        UnsupportedError: where the op or one of the attributes is not known.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = node.version or opset_imports.get(domain, 1)
    op = find(domain, node.op_type, version)
    if op is None:
        name = f"{domain}.{node.op_type}" if domain else node.op_type
        raise UnsupportedError(
            where(node), f"op {name} of opset {version}", "an op listed in docs/operators.md"
        )
    attributes = {key: attribute_value(attr) for key, attr in node.attributes.items()}
    if not op.attributes.issuperset(attributes):
        unknown = min(set(attributes) - op.attributes)
        raise UnsupportedError(
            where(node),
            f"attribute {unknown!r} of {op.name}",
            f"one of {', '.join(sorted(op.attributes)) or 'none'}",
        )
    if "num_outputs" in op.attributes:
        attributes.setdefault("num_outputs", len(node.outputs))
    return op, attributes


def bind_host_inputs(
    node: ir.Node, op: Op, inputs: list[Tensor | None]
) -> list[Tensor | Any | None]:
    """The inputs with those that the op needs on the host turned into Python values."""
    bound: list[Tensor | Any | None] = list(inputs)
    for index in op.host:
        tensor = inputs[index] if index < len(inputs) else None
        if tensor is None:
            continue
        if tensor.is_meta or tensor.numel() > MAX_HOST_ELEMENTS:
            raise UnsupportedError(
                where(node),
                f"input {index} of {node.op_type} "
                + ("computed from the data" if tensor.is_meta else f"of {tensor.numel()} elements"),
                "a constant or a shape",
            )
        bound[index] = tensor.tolist()
    return bound


def where(node: ir.Node) -> str:
    """How messages name a node."""
    output = node.outputs[0].name if node.outputs else node.op_type
    return f"node {node.name or output!r}"


def attribute_value(attribute: ir.Attr) -> Any:
    """An ONNX attribute as a Python value; a tensor becomes a torch tensor."""
    if attribute.type == ir.AttributeType.TENSOR:
        return to_torch(attribute.value)
    return attribute.value


def to_torch(tensor: ir.TensorProtocol) -> Tensor:
    """The data of an ONNX tensor as a CPU tensor, without a copy where that is possible."""
    if tensor.dtype == ir.DataType.BFLOAT16:
        bits = np.array(tensor.numpy()).reshape(-1).view(np.int16)
        return torch.from_numpy(bits).view(torch.bfloat16).reshape(tensor.shape.numpy())
    try:
        torch_dtype(tensor.dtype)
    except KeyError:
        raise UnsupportedError(
            f"tensor {tensor.name!r}", f"element type {tensor.dtype}", "a number or a boolean"
        ) from None
    array = np.ascontiguousarray(tensor.numpy()).reshape(tensor.shape.numpy())
    if array.flags.writeable:
        return torch.from_numpy(array)
    if array.nbytes <= _COPY_BYTES:
        return torch.from_numpy(array.copy())
    with warnings.catch_warnings():
        # The bytes of the file are read-only, and so is every use of the tensor: no copy needed.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def as_meta(tensor: ir.TensorProtocol) -> Tensor:
    """An ONNX tensor of a type that torch has, without its data."""
    return torch.empty(tensor.shape.numpy(), dtype=torch_dtype(tensor.dtype), device="meta")


def to_onnx(tensor: Tensor, name: str | None) -> ir.TensorProtocol:
    """A CPU tensor as the data of an ONNX initializer."""
    if tensor.dtype == torch.bfloat16:
        bits = tensor.contiguous().view(torch.int16).numpy()
        return ir.Tensor(bits.view(ir.DataType.BFLOAT16.numpy()), name=name)
    return ir.Tensor(tensor.contiguous().numpy(), name=name)


def to_meta(argument: Any) -> Any:
    """A tensor without its data; anything else as it is."""
    return argument.to("meta") if isinstance(argument, Tensor) else argument


def check_dtypes(node: ir.Node, op: Op, tensors: Sequence[Tensor | None]) -> None:
    """Raises UnsupportedError for a type that torch holds, but does not compute this op in."""
    for tensor in tensors:
        if tensor is not None and tensor.dtype in _UNSIGNED and not op.unsigned:
            raise UnsupportedError(
                where(node), f"{op.name} of {tensor.dtype}".replace("torch.", ""), "another type"
            )
