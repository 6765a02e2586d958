"""Single nodes on fastgan and on ONNX's reference evaluator, with inputs drawn anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from fastgan import onnx_backend
from tests import drawing

RNG = drawing.new_numpy()


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(op: str, opset: int, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
    """The op on fastgan: its outputs, or its only one."""
    node = make(op, inputs, outputs, attributes)
    given = [np.asarray(x) for x in inputs if x is not None]
    results = onnx_backend.run_node(node, given, opset_version=opset)
    return results[0] if outputs == 1 else results


def make(op: str, inputs: Any, outputs: int, attributes: dict[str, Any]) -> onnx.NodeProto:
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    return helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)


def reference(op: str, opset: int, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
    """The op on ONNX's reference evaluator."""
    node = make(op, inputs, outputs, attributes)
    named = {f"x{i}": np.asarray(x) for i, x in enumerate(inputs) if x is not None}
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in named.items()
    ]
    ends = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    graph = helper.make_graph([node], "g", infos, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    results = ReferenceEvaluator(model).run(None, named)
    return results[0] if outputs == 1 else results


def close(actual: np.ndarray, expected: Any, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    expected = expected.numpy() if isinstance(expected, torch.Tensor) else np.asarray(expected)
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
