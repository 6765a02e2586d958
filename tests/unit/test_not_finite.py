"""Infinities and NaN: what operators make of them, and that they stay where a window holds them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import helper

import fastgan
from tests.unit.models import graph_model, value

pytestmark = pytest.mark.cpu

INF, NAN = np.inf, np.nan
X = np.array([-INF, INF, NAN, -1e30, 1e30, -100, -90, 100, 0, 2, -2, 0.25, -0.25, 3, 5, -7])
OPERATORS = ("Sigmoid", "Swish", "ThresholdedRelu", "Shrink", "HardSwish", "Tanh", "Relu")


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("op", OPERATORS)
def test_operators_are_onnx_runtimes(op: str, behind: bool) -> None:
    """Alone, and behind a convolution, where it is the native code's."""
    x = X.astype(np.float32).reshape(1, 1, 4, 4)
    first = [helper.make_node("Conv", ["x", "one"], ["c"])] if behind else []
    name = "c" if behind else "x"
    if op == "Swish":  # ONNX Runtime has none that is newer than this
        last = [
            helper.make_node("Sigmoid", [name], ["s"]),
            helper.make_node("Mul", [name, "s"], ["y"]),
        ]
    else:
        last = [helper.make_node(op, [name], ["y"])]
    weights = {"one": np.ones((1, 1, 1, 1), np.float32)}
    data = graph_model([*first, *last], [value("x", [1, 1, 4, 4])], weights=weights)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    expected = onnxruntime.InferenceSession(data, options).run(None, {"x": x})[0]
    made = fastgan.load(data, device="cpu", backend="torch", strict=True).run({"x": x})["y"].numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-7)
    if op == "Sigmoid":
        assert made.ravel()[0] == 0


#: Channels in and out, kernel, stride: Winograd's tiles, and patches of pixels of few channels.
LAYERS = [
    (32, 32, 3, 1),
    (16, 64, 3, 1),
    (17, 3, 3, 1),
    (3, 8, 4, 2),
    (1, 1, 5, 1),
    (16, 16, 4, 2),
    (16, 16, 1, 1),
]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_poison_stays_in_its_windows(layer: tuple[int, int, int, int], transposed: bool) -> None:
    channels, outs, kernel, stride = layer
    x = torch.randn(2, channels, 15, 14)
    x[0, channels // 2, 5, 6], x[1, 0, 14, 13], x[1, channels - 1, 0, 9] = NAN, INF, -INF
    size = (channels, outs) if transposed else (outs, channels)
    weight = torch.randn(*size, kernel, kernel)
    run = F.conv_transpose2d if transposed else F.conv2d
    pad = kernel // 2

    def by_torch(x: torch.Tensor) -> torch.Tensor:
        return run(x.double(), weight.double(), None, stride, pad)  # type: ignore[operator]

    reached = run(  # type: ignore[operator]
        (~x.isfinite()).double(), torch.ones_like(weight).double(), None, stride, pad
    )
    op = "ConvTranspose" if transposed else "Conv"
    given = {"strides": [stride] * 2, "pads": [pad] * 4}
    data = graph_model(
        [helper.make_node(op, ["x", "w"], ["y"], **given), helper.make_node("Neg", ["x"], ["z"])],
        [value("x", ["n", channels, 15, 14])],
        weights={"w": weight.numpy()},
        outputs=[value("y"), value("z")],  # two, so that it is no chain, which has code of its own
    )
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    made = g.run({"x": x})["y"]
    assert torch.equal(~made.isfinite(), reached > 0.5)
    clean = by_torch(torch.where(x.isfinite(), x, torch.zeros_like(x)))
    error = torch.where(reached > 0.5, 0, made.double() - clean).abs().max()
    assert error < 2e-5 * clean.abs().max()
