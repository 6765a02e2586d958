"""Convolutions that slide a column down a column: oneDNN gives wrong values for some of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from onnx import helper

import fastgan
from fastgan.engine.library import backend as library
from fastgan.ops.convolution import conv, conv_transpose
from tests.unit.models import graph_model, value

pytestmark = pytest.mark.cpu

#: Name: the transposed one?, the shapes of image and weight, attributes. Each was wrong.
CASES = {
    "by a stride": (False, (1, 47, 700, 3), (17, 47, 700, 1), {"strides": [1, 3]}),
    "packed": (False, (2, 17, 339, 1), (17, 17, 330, 1), {}),
    "padded": (False, (1, 20, 330, 1), (1, 20, 330, 1), {"pads": [165, 0, 165, 0]}),
    "in a volume": (False, (1, 47, 3, 300, 1), (17, 47, 3, 300, 1), {}),
    "transposed": (True, (1, 33, 2, 1), (33, 64, 100, 1), {}),
    "by phases": (True, (1, 33, 2, 1), (33, 2, 200, 2), {"strides": [1, 2]}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_column_down_a_column(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transposed, size, kernel, how = CASES[name]
    x, weight = torch.randn(size), torch.randn(kernel)
    rank = len(kernel) - 2
    given = {"stride": how.get("strides", 1), "padding": how.get("pads", [0] * rank)[:rank]}
    run = (F.conv_transpose2d if transposed else F.conv2d) if rank == 2 else F.conv3d
    expected = run(x.double(), weight.double(), **given)  # oneDNN has no float64

    last = torch.channels_last if rank == 2 else torch.channels_last_3d
    op = conv_transpose if transposed else conv
    made = {"op": op(x.contiguous(memory_format=last), weight, **how)}
    data = graph_model(
        [helper.make_node("ConvTranspose" if transposed else "Conv", ["x", "w"], ["y"], **how)],
        [value("x", list(size))],
        weights={"w": weight.numpy()},
    )
    for native in (True, False):
        if not native:
            monkeypatch.setattr(library.graph, "executable", lambda *_, **__: None)
        g = fastgan.load(data, device="cpu", backend="torch", strict=True)
        made[f"engine, native {native}"] = g.run({"x": x})["y"]
    for how_made, y in made.items():
        error = (y - expected).abs().max() / expected.abs().max()
        assert error < 1e-5, how_made
