"""A Cast to 16 bits and back rounds, whatever a plan computes in."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import fastgan
from tests.unit.models import graph_model, value

HALVES = [TensorProto.FLOAT16, TensorProto.BFLOAT16]


def nodes(half: int, like: bool) -> list[onnx.NodeProto]:
    """A product rounded, a view of it, a curve rounded."""

    def cast(source: str, made: str, to: int) -> onnx.NodeProto:
        if like:
            typed = {half: "half", TensorProto.FLOAT: "b"}[to]
            return helper.make_node("CastLike", [source, typed], [made])
        return helper.make_node("Cast", [source], [made], to=to)

    return [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"]),
        cast("a", "c", half),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        cast("d", "e", TensorProto.FLOAT),
        helper.make_node("Tanh", ["e"], ["f"]),
        cast("f", "g", half),
        cast("g", "y", TensorProto.FLOAT),
    ]


@pytest.mark.parametrize("like", [False, True], ids=["Cast", "CastLike"])
@pytest.mark.parametrize("half", HALVES, ids=["float16", "bfloat16"])
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_rounding(backend: str, half: int, like: bool) -> None:
    random = np.random.default_rng(half)
    w, b, x = (random.standard_normal(size).astype(np.float32) for size in ((6, 8), 8, (5, 6)))
    weights = {"w": w, "b": b, "shape": np.array([-1, 4, 2])}
    tensors = [helper.make_tensor("half", half, [1], [1.0])] if like else []
    data = graph_model(nodes(half, like), [value("x", ["n", 6])], weights=weights, tensors=tensors)
    expected = ReferenceEvaluator(onnx.ModelProto.FromString(data)).run(None, {"x": x})[0]
    found = fastgan.load(data, device="cpu", backend=backend, strict=True).run({"x": x})["y"]
    # A sum that differs in its last bit may round to the next number of 16 bits, and few do.
    step = np.finfo(np.float16).eps if half == TensorProto.FLOAT16 else 2.0**-7
    np.testing.assert_allclose(found, expected, rtol=0, atol=step)
    assert np.mean(found.numpy() == expected) > 0.9


@pytest.mark.parametrize("half", HALVES, ids=["float16", "bfloat16"])
def test_what_is_beyond_sixteen_bits(half: int) -> None:
    ends = [helper.make_node("Cast", ["x"], ["a"], to=half), helper.make_node("Abs", ["a"], ["b"])]
    data = graph_model([*ends, helper.make_node("Cast", ["b"], ["y"], to=1)], [value("x", ["n"])])
    x = np.array([1e5, -7e4, 4097, 1e-9, np.inf], np.float32)
    expected = ReferenceEvaluator(onnx.ModelProto.FromString(data)).run(None, {"x": x})[0]
    found = fastgan.load(data, device="cpu", backend="torch").run({"x": x})["y"].numpy()
    assert np.array_equal(found, expected)
