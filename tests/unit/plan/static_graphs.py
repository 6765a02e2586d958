"""Graphs by hand, and the same made static."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from fastgan import onnx_backend
from fastgan.plan.specialise import specialise

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, shape: Any = None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, array: Any, dtype: Any = np.int64) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.array(array, dtype), f"{name}.value")
    return helper.make_node("Constant", [], [name], value=tensor)


def graph_of(nodes: Any, inputs: Any, outputs: Any, weights: Any = None) -> onnx.GraphProto:
    initializers = [numpy_helper.from_array(a, name) for name, a in (weights or {}).items()]
    return helper.make_graph(nodes, "g", inputs, outputs, initializers)


def model_of(*args: Any, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    graph = graph_of(*args, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def static(model: onnx.ModelProto, **shapes: tuple[int, ...]) -> ir.Model:
    return specialise(ir.from_proto(model), shapes)


def ops_of(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    return list(onnx_backend.run_model(model, list(inputs)))
