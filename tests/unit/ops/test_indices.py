"""Indices beyond an axis are one error of ours, and negative ones count from its end."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import fastgan
from tests.unit.models import graph_model, value

#: Each on a table t [4, 3]: the shape of its indices, and attributes.
OPERATORS = {
    "Gather": ([2], {"axis": 1}),
    "GatherElements": ([4, 2], {"axis": 1}),
    "GatherND": ([5, 2], {}),
    "ScatterElements": ([4, 2], {"axis": 1}),
    "ScatterND": ([5, 2], {}),
}
TABLE = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def picking(op: str, **more: str) -> bytes:
    """Indices i -> y, of the table, or of what is added to it."""
    shape, given = OPERATORS[op]
    count = [5] if op == "ScatterND" else shape
    updates = ["u"] if op.startswith("Scatter") else []
    nodes = [
        helper.make_node("Mul", ["t", "scale"], ["s"]),
        helper.make_node(op, ["s", "i", *updates], ["y"], name="picks", **given, **more),
    ]
    weights = {"t": TABLE, "u": np.arange(np.prod(count), dtype=np.float32).reshape(count)}
    inputs = [value("i", shape, TensorProto.INT64), value("scale", [])]
    return graph_model(nodes, inputs, weights=weights)


def indices(op: str) -> np.ndarray:
    """Some of them, negative ones among them, none twice."""
    places = np.random.default_rng(1).permutation(12)[:5]
    if op.endswith("ND"):
        return np.stack([places // 3 - 4 * (places % 2), places % 3 - 3], -1)
    return np.broadcast_to(np.array([1, -1]), OPERATORS[op][0]).copy()


@pytest.mark.parametrize("op", OPERATORS)
def test_negative_ones_count_from_the_end(op: str) -> None:
    data = picking(op)
    feeds = {"i": indices(op), "scale": np.array(2, np.float32)}
    expected = onnxruntime.InferenceSession(data).run(None, feeds)[0]
    found = fastgan.load(data, device="cpu", backend="torch", strict=True).run(feeds)["y"]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("wrong", [3, -4, 1 << 40])
@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize("op", OPERATORS)
def test_ones_beyond_the_axis(op: str, backend: str, wrong: int) -> None:
    g = fastgan.load(picking(op), device="cpu", backend=backend, strict=True)
    places = indices(op)
    places[..., -1] = wrong
    with pytest.raises(fastgan.FastganError, match="picks") as caught:
        g.run({"i": places, "scale": np.array(2, np.float32)})
    if backend == "torch":
        assert isinstance(caught.value, fastgan.ArgumentError)
        assert f"found index {wrong} is out of bounds for an axis of 3" in str(caught.value)


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_a_reduction_that_there_is_not(op: str) -> None:
    with pytest.raises(fastgan.ModelFileError, match="reduction"):
        fastgan.load(picking(op, reduction="mean"), device="cpu")
