"""Small ONNX models for the tests of reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(
    name: str, shape: Sequence[int | str] | None = None, dtype: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    """An input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    tensors: Sequence[TensorProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    opset: int = 18,
    **fields: object,
) -> bytes:
    """The bytes of a model whose output, by default, is "y"."""
    made = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    outputs = [value("y")] if outputs is None else outputs
    graph = helper.make_graph(nodes, "test", inputs, outputs, [*made, *tensors])
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, **fields)
    return bytes(model.SerializeToString())


def relu_model() -> bytes:
    """y = relu(x), x of shape [1, 4]."""
    return graph_model([helper.make_node("Relu", ["x"], ["y"], name="first")], [value("x", [1, 4])])
