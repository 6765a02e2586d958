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
OPERATORS = (
    *("Sigmoid", "Swish", "ThresholdedRelu", "Shrink", "HardSwish", "Tanh", "Relu"),
    *("Sign", "Mish", "Softplus", "Elu", "Selu", "Celu", "LeakyRelu"),
)


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


#: Channels in and out, kernel, stride, groups: Winograd's tiles, also of patches; patches of pixels
#: of few channels; few channels by themselves.
LAYERS = [
    (32, 32, 3, 1, 1),
    (16, 64, 3, 1, 1),
    (17, 3, 3, 1, 1),
    (32, 3, 5, 2, 1),
    (3, 8, 4, 2, 1),
    (1, 1, 5, 1, 1),
    (16, 16, 4, 2, 1),
    (16, 16, 1, 1, 1),
    (1, 1, 3, 1, 1),
    (3, 3, 3, 1, 3),
    (3, 3, 3, 2, 3),
    (4, 4, 5, 2, 4),
    (6, 6, 3, 1, 6),
    (4, 6, 3, 1, 2),
]


@pytest.mark.parametrize("alone", [False, True], ids=["graph", "chain"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_poison_stays_in_its_windows(
    layer: tuple[int, int, int, int, int], transposed: bool, alone: bool
) -> None:
    """And reaches all of them, by weights of zero too, as in PyTorch and ONNX Runtime."""
    channels, outs, kernel, stride, groups = layer
    x = torch.randn(2, channels, 15, 14)
    x[0, channels // 2, 5, 6], x[1, 0, 14, 13], x[1, channels - 1, 0, 9] = NAN, INF, -INF
    size = (channels, outs // groups) if transposed else (outs, channels // groups)
    weight = torch.randn(*size, kernel, kernel)
    weight[torch.rand_like(weight) < 0.3] = 0
    run = F.conv_transpose2d if transposed else F.conv2d
    pad = kernel // 2

    def by_torch(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return run(  # type: ignore[operator]
            x.double(), weight.double(), None, stride=stride, padding=pad, groups=groups
        )

    reached = by_torch(~x.isfinite(), torch.ones_like(weight))
    op = "ConvTranspose" if transposed else "Conv"
    given = {"strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
    nodes = [helper.make_node(op, ["x", "w"], ["y"], **given)]
    outputs = [value("y")]
    if not alone:  # two results, so that it is no chain, which has code of its own
        nodes.append(helper.make_node("Neg", ["x"], ["z"]))
        outputs.append(value("z"))
    data = graph_model(
        nodes,
        [value("x", ["n", channels, 15, 14])],
        weights={"w": weight.numpy()},
        outputs=outputs,
    )
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    made = g.run({"x": x})["y"]
    assert torch.equal(~made.isfinite(), reached > 0.5)
    clean = by_torch(torch.where(x.isfinite(), x, torch.zeros_like(x)), weight)
    error = torch.where(reached > 0.5, 0, made.double() - clean).abs().max()
    assert error < 2e-5 * clean.abs().max()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("groups", [1, 20], ids=["native", "library"])
def test_relu_behind_a_product_keeps_nan(groups: int, residual: bool) -> None:
    """oneDNN's own makes 0 of it."""
    x = torch.randn(2, 40, 6, 6)
    x[0, 1, 2, 3] = NAN
    weight, other = torch.rand(40, 40 // groups, 3, 3), torch.randn(2, 40, 6, 6)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, group=groups)]
    nodes += [helper.make_node("Add", ["c", "r"], ["s"])] if residual else []
    nodes.append(helper.make_node("Relu", ["s" if residual else "c"], ["y"]))
    ports = [value(name, [2, 40, 6, 6]) for name in ("x", "r")[: 1 + residual]]
    data = graph_model(nodes, ports, weights={"w": weight.numpy()})
    given = {"x": x, "r": other} if residual else {"x": x}
    made = fastgan.load(data, device="cpu", backend="torch", strict=True).run(given)["y"]
    expected = F.conv2d(x.double(), weight.double(), None, padding=1, groups=groups)
    expected = torch.relu(expected + other if residual else expected).float()
    torch.testing.assert_close(made, expected, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert made.isnan().any()
