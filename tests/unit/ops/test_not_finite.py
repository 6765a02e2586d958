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
    (96, 64, 4, 2, 1),  # filtered, of two taps
    (128, 3, 4, 2, 1),
]


@pytest.mark.parametrize("alone", [False, True], ids=["graph", "chain"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_poison_stays_in_its_windows(
    layer: tuple[int, int, int, int, int], transposed: bool, alone: bool
) -> None:
    """And reaches all of them, by weights of either zero too, as in PyTorch and ONNX Runtime: an
    infinity stays one, of its sign, unless it meets a zero or its opposite."""
    channels, outs, kernel, stride, groups = layer
    x = torch.randn(2, channels, 15, 14)
    x[0, channels // 2, 5, 6], x[1, 0, 14, 13], x[1, channels - 1, 0, 9] = NAN, INF, -INF
    size = (channels, outs // groups) if transposed else (outs, channels // groups)
    weight = torch.randn(*size, kernel, kernel)
    weight[torch.rand_like(weight) < 0.2] = 0
    weight[torch.rand_like(weight) < 0.1] = -0.0
    run = F.conv_transpose2d if transposed else F.conv2d
    pad = kernel // 2

    def by_torch(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return run(  # type: ignore[operator]
            x.double(), weight.double(), None, stride=stride, padding=pad, groups=groups
        )

    expected = by_torch(x, weight)
    reached = by_torch(~x.isfinite(), torch.ones_like(weight)) > 0.5
    assert torch.equal(~expected.isfinite(), reached)
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
    assert torch.equal(made[reached].nan_to_num(7), expected[reached].float().nan_to_num(7))
    error = torch.where(reached, 0, made.double() - expected).abs().max()
    assert error < 2e-5 * expected[~reached].abs().max()


@pytest.mark.parametrize("channels", [3, 32])
def test_weights_that_bf16_rounds_to_zero_are_weights(channels: int) -> None:
    """As a transposed layer's patches of pixels have them; what is infinite is made in fp32."""
    x = torch.zeros(1, channels, 4, 4)
    x[0, 0, 1, 1] = INF
    weight = np.full((channels, 3, 4, 4), -1e-41, np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1] * 4)
    data = graph_model([node], [value("x", ["n", channels, 4, 4])], weights={"w": weight})
    g = fastgan.load(data, device="cpu", backend="torch", precision="bf16", strict=True)
    expected = F.conv_transpose2d(x, torch.tensor(weight), stride=2, padding=1)
    assert torch.equal(g.run({"x": x})["y"], expected)


def test_factors_of_minus_zero_from_data() -> None:
    """Of a product of few: they are numbers."""
    a, b = torch.tensor([[INF, 1, 2]]), torch.tensor([[-0.0, 1], [1, 1], [1, -0.0]])
    data = graph_model(
        [helper.make_node("MatMul", ["a", "b"], ["y"]), helper.make_node("Neg", ["b"], ["z"])],
        [value("a", [1, 3]), value("b", [3, 2])],
        outputs=[value("y"), value("z")],
    )
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    made = g.run({"a": a, "b": b})["y"]
    torch.testing.assert_close(made, a @ b, equal_nan=True)


@pytest.mark.parametrize("weight", [INF, NAN, 3e38])
def test_weights_that_are_no_numbers(weight: float) -> None:
    """Or next to none: they stay in their channel, where Winograd's filtering has no such."""
    x, weights = torch.randn(1, 32, 12, 12), torch.randn(64, 32, 3, 3)
    weights[37, 5, 1, 2] = weight
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)]
    nodes.append(helper.make_node("Neg", ["x"], ["z"]))  # a chain has no Winograd's
    data = graph_model(
        nodes,
        [value("x", [1, 32, 12, 12])],
        weights={"w": weights.numpy()},
        outputs=[value("y"), value("z")],
    )
    made = fastgan.load(data, device="cpu", backend="torch", strict=True).run({"x": x})["y"]
    expected = F.conv2d(x, weights, padding=1)
    torch.testing.assert_close(made, expected, equal_nan=True, rtol=1e-4, atol=1e-3)


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


@pytest.mark.parametrize("size", [(11, 13), (6, 14), (18, 7), (3, 4)], ids=str)
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resizing_reads_what_weighs_nothing(
    mode: str, corners: bool, size: tuple[int, int]
) -> None:
    """As PyTorch does: of a place that falls on an input, the ones beside it."""
    x = torch.randn(1, 17, 6, 7)
    x[0, 3, 3, 3], x[0, 4, 0, 0], x[0, 5, 5, 6], x[0, 6, 3, 0] = NAN, INF, -INF, NAN
    expected = F.interpolate(x, size=size, mode=f"bi{mode}", align_corners=corners)
    coordinates = "align_corners" if corners else "half_pixel"
    made, _ = resized(x, size, mode=mode, coordinate_transformation_mode=coordinates)
    assert torch.equal(made.isfinite(), expected.isfinite())
    there = expected.isfinite()
    torch.testing.assert_close(made[there], expected[there], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(11, 13), (12, 14), (6, 14), (3, 7)], ids=str)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_places_that_pytorch_has_not_read_as_in_onnx_runtime(
    mode: str, size: tuple[int, int]
) -> None:
    x = torch.randn(1, 17, 6, 7)
    x[0, 3, 3, 3], x[0, 4, 0, 0], x[0, 5, 5, 6], x[0, 6, 3, 0] = NAN, INF, -INF, NAN
    made, expected = resized(x, size, mode=mode, coordinate_transformation_mode="asymmetric")
    assert torch.equal(made.isfinite(), expected.isfinite())


def resized(
    x: torch.Tensor, size: tuple[int, int], **given: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """By the native code, and by ONNX Runtime."""
    sizes = np.array([*x.shape[:2], *size])
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], **given)
    data = graph_model([node], [value("x", [*x.shape])], weights={"s": sizes})
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    plan = g.plan()
    assert plan is not None
    assert [step.kernel for step in plan.steps] == ["native"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = onnxruntime.InferenceSession(data, options).run(None, {"x": x.numpy()})[0]
    return g.run({"x": x})["y"], torch.from_numpy(expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layer", [(32, 64, 3, 1), (16, 16, 4, 2), (96, 64, 4, 2)], ids=str)
def test_what_is_next_to_infinite_stays_finite(
    layer: tuple[int, int, int, int], transposed: bool
) -> None:
    """Where its products are: Winograd's sums on the way are larger than those of the result."""
    channels, outs, kernel, stride = layer
    x = torch.randn(2, channels, 16, 20)
    x[0, :, 3:9, 2:11] = 1e38  # whose transform is of zeros in part
    x[0, :, 3:9, 11:] = 3e38 * torch.randn(channels, 6, 9).sign()
    x[0, 0, 12, 12], x[1, 1, 2, 3], x[1, 2, 9, 9], x[1, 3, 9, 10] = 3e38, -2e38, INF, NAN
    size = (channels, outs) if transposed else (outs, channels)
    weight = torch.randn(*size, kernel, kernel) * (1 / (channels * kernel * kernel * 4))
    run = F.conv_transpose2d if transposed else F.conv2d
    expected = run(x.double(), weight.double(), stride=stride, padding=1).float()
    assert expected[0].isfinite().all()
    assert not expected[1].isfinite().all()
    op = "ConvTranspose" if transposed else "Conv"
    nodes = [
        helper.make_node(op, ["x", "w"], ["y"], strides=[stride] * 2, pads=[1] * 4),
        helper.make_node("Neg", ["x"], ["z"]),  # a chain has no Winograd's
    ]
    data = graph_model(
        nodes,
        [value("x", ["n", channels, 16, 20])],
        weights={"w": weight.numpy()},
        outputs=[value("y"), value("z")],
    )
    made = fastgan.load(data, device="cpu", backend="torch", strict=True).run({"x": x})["y"]
    assert torch.equal(made.isfinite(), expected.isfinite())
    there = expected.isfinite()
    near = F.max_pool2d(expected.where(there, 0).abs().amax(1, True), 13, 1, 6).expand_as(made)
    assert ((made - expected).abs() / near)[there].max() < 2e-5
    for value_ in (INF, -INF):
        assert torch.equal(made == value_, expected == value_)
