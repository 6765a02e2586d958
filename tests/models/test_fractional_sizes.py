"""Results whose sizes no whole scale tells, and models of one size, as their graphs have them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper

import fastgan
from tests.unit.models import graph_model, value

KERNEL = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32) / 5
BACKENDS = ["torch", "ort"]


def model(node: list[object], weights: dict[str, np.ndarray], **given: object) -> bytes:
    """x -> a convolution, the node, a Sigmoid -> y."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["a"], pads=[1] * 4),
        helper.make_node(node[0], node[1:], ["b"], **given),
        helper.make_node("Sigmoid", ["b"], ["y"]),
    ]
    ends = [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 3, "H", "W"])]
    return graph_model(nodes, ends[0], weights={"kernel": KERNEL, **weights}, outputs=ends[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1.5, 1.25])
def test_a_resize_cuts_off_what_is_left_of_a_pixel(scale: float, backend: str) -> None:
    sizes = {"scales": np.array([1, 1, scale, scale], np.float32)}
    data = model(["Resize", "a", "", "scales"], sizes, mode="linear")
    g = fastgan.load(data, device="cpu", backend=backend)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for size in ((65, 63), (64, 40), (7, 97), (5, 9)):
        x = torch.rand(1, 3, *size)
        expected = session.run(None, {"x": x.numpy()})[0]
        found = g(x)
        assert tuple(found.shape) == expected.shape, size
        assert np.abs(found.numpy() - expected).max() < 1e-5, size
    x = torch.rand(1, 3, 65, 63)
    assert g(x, tile=32).shape == g(x).shape
    assert (g(x, tile=32, tile_pad=8) - g(x))[..., :-4, :-4].abs().max() < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_norm_with_a_scale_for_each_place_has_one_size(backend: str) -> None:
    scale = np.random.default_rng(1).random((20, 24), np.float32)
    data = model(["LayerNormalization", "a", "scale"], {"scale": scale}, axis=-2)
    g = fastgan.load(data, device="cpu", backend=backend)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    x = torch.rand(2, 3, 20, 24)
    assert np.abs(g(x).numpy() - session.run(None, {"x": x.numpy()})[0]).max() < 1e-5
    assert g(torch.rand(1, 3, 40, 30)).shape == (1, 3, 40, 30)  # resized there and back
