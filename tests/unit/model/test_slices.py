"""A Slice of a size below 0 ends the process in onnx and in ONNX Runtime; here it is an error."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx import helper

import fastgan
from tests.unit.models import graph_model, value

INSIDE = """
import sys, fastgan
try:
    fastgan.load(sys.stdin.buffer.read(), device="cpu", backend=sys.argv[1])
except fastgan.errors.ModelFileError as error:
    sys.exit(0 if "node 'part' (Slice): found a size of -" in str(error) else str(error))
sys.exit("loaded")
"""


def sliced(height: int | str, kernel: int, cuts: list[int], opset: int = 18) -> bytes:
    """x [n, 1, height, 4] through a convolution, and [start, end, step] of its rows."""
    numbers = zip(("starts", "ends", "axes", "steps"), (*cuts[:2], 2, *cuts[2:]), strict=False)
    weights = {name: np.array([number], np.int64) for name, number in numbers}
    part = helper.make_node("Slice", ["a", *weights], ["y"], name="part")
    if opset < 10:
        part = helper.make_node("Slice", ["a"], ["y"], "part", starts=[0], ends=[9], axes=[2])
        weights = {}
    weights["w"] = np.ones((1, 1, kernel, 1), np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), part]
    return graph_model(nodes, [value("x", ["n", 1, height, 4])], weights=weights, opset=opset)


@pytest.mark.parametrize("backend", ["auto", "ort"])
@pytest.mark.parametrize(
    "model",
    [
        sliced(3, 7, [0, 2]),
        sliced(3, 7, [-1, -9, -1]),
        sliced(0, 3, [0, 9], opset=13),
        sliced(3, 7, [], opset=9),
    ],
    ids=["forwards", "backwards", "of nothing", "by attributes"],
)
def test_one_error(model: bytes, backend: str) -> None:
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "-c", INSIDE, backend]
    done = subprocess.run(command, input=model, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("height", [6, "h"])
def test_a_slice_of_something(height: int | str) -> None:
    x = torch.rand(2, 1, 6, 4)
    g = fastgan.load(sliced(height, 3, [-1, -9, -2]), device="cpu", backend="torch")
    rows = x.unfold(2, 3, 1).sum(-1)
    assert torch.allclose(g.run({"x": x})["y"], rows.flip(2)[:, :, ::2], atol=1e-6)
