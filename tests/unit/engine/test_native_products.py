"""Convolutions, linear maps and volumes of the native graph, in fp32 and bf16, by any form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastgan.engine.native import layers
from fastgan.measure.tolerances import TOLERANCES
from fastgan.plan import Epilogue
from tests import drawing
from tests.unit.engine.native_networks import (
    Network,
    add_convolution,
    check,
    native_of,
    threads,
)

__all__ = ["threads"]

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("axes", [1, 2])
def test_convolutions(axes: int, bf16: bool) -> None:
    draw = drawing.new_random()
    for _ in range(25):
        c, out = draw.choice([1, 3, 5, 16, 33]), draw.choice([1, 3, 17, 32, 40])
        net = Network(x=(draw.randint(1, 3), c, *(draw.randint(2, 9) for _ in range(axes))))
        check(net.plan(add_convolution(net, draw, "x", out, 1)), 3e-5, bf16)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_pixels_of_few_channels_side_by_side(channels: int) -> None:
    """Rows of less than a vector, of some and a part, and of what is behind and beyond an edge."""
    draw = drawing.new_random()
    for _ in range(12):
        net = Network(x=(2, channels, draw.randint(3, 7), draw.randint(3, 45)))
        y = add_convolution(net, draw, "x", channels, channels)
        joined = net.add("Concat", [y, y], (2, 2 * channels, *net.shapes[y][2:]), axis=1)
        part = net.add("Slice", [joined, net.host([1]), net.host([channels + 1]), net.host([1])],
                       (2, channels, *net.shapes[y][2:]))  # fmt: skip
        check(net.plan(add_convolution(net, draw, part, channels, channels)), 3e-5)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("mode", [None, "reflect", "edge"])
def test_lines_of_few_channels(mode: str | None, bf16: bool) -> None:
    """Rows of many tiles, that several items share, and their ends."""
    own = {"pad_mode": mode} if mode else {}
    for c, out, kernel, stride, size in ((1, 16, 4, 2, (90, 47)), (3, 37, 3, 1, (21, 130))):
        net = Network(x=(2, c, *size))
        names = ["x", net.weight(out, c, kernel, kernel, scale=c**-0.5 / kernel), net.weight(out)]
        given = {"strides": [stride] * 2, "pads": [1] * 4, "dilations": [1] * 2, "group": 1, **own}
        shape = (2, out, *((s + 2 - kernel) // stride + 1 for s in size))
        epilogue = Epilogue("leaky_relu", (0.2,), bias=True)
        y = net.add("fastgan.Conv", names, shape, epilogue=epilogue, **given)
        check(net.plan(y), 3e-5, bf16)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("curve", ["none", "relu", "leaky_relu", "prelu", "tanh", "silu"])
def test_outputs_of_lines(curve: str, bf16: bool) -> None:
    """Pixels of whole vectors, of parts, and of patches that lie side by side or reach over edges;
    beside others' channels; of rows in pieces, and of lines that other rows' taps read too or not.
    """
    for kind, c, out, kernel, stride, dilation, shuffle, size in (
        ("Conv", 3, 64, 7, 1, 1, 1, (9, 30)),
        ("Conv", 3, 17, 3, 1, 1, 1, (3, 700)),
        ("Conv", 2, 6, 3, 1, 2, 1, (19, 33)),
        ("Conv", 1, 1, 3, 1, 1, 1, (20, 41)),
        ("Conv", 3, 6, 4, 2, 1, 1, (22, 62)),
        ("Conv", 5, 2, 3, 1, 1, 3, (12, 25)),
        ("ConvTranspose", 6, 3, 4, 2, 1, 1, (8, 13)),
        ("ConvTranspose", 5, 20, 4, 2, 1, 1, (5, 21)),
    ):
        net = Network(x=(2, c, *size))
        products, reach = out * shuffle**2, dilation * (kernel - 1) + 1
        after = [(s + 2 - reach) // stride + 1 for s in size]
        if kind == "ConvTranspose":
            after = [(s - 1) * stride - 2 + reach for s in size]
        pair = (c, out) if kind == "ConvTranspose" else (products, c)
        names = ["x", net.weight(*pair, kernel, kernel, scale=c**-0.5 / kernel)]
        names.append(net.weight(products))
        given: dict[str, Any] = {"strides": [stride] * 2, "pads": [1] * 4, "group": 1}
        given["dilations"] = [dilation] * 2
        if kind == "ConvTranspose":
            given["output_padding"] = [0] * 2
        if shuffle > 1:
            given |= {"shuffle": shuffle, "shuffle_mode": "CRD"}
        slopes = tuple(0.1 * i for i in range(out)) if curve == "prelu" else ()
        parameters = (0.2,) if curve == "leaky_relu" else ()
        epilogue = Epilogue(curve, parameters, slopes, bias=True)
        shape = (2, out, *(a * shuffle for a in after))
        y = net.add(f"fastgan.{kind}", names, shape, epilogue=epilogue, **given)
        wide = net.add("Concat", [y, y], (2, 2 * out, *shape[2:]), axis=1)
        check(net.plan(y), 3e-5, bf16)
        check(net.plan(wide), 3e-5, bf16)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_volumes(transposed: bool, bf16: bool) -> None:
    draw = drawing.new_random()
    for _ in range(12):
        n, c, out = draw.randint(1, 3), draw.choice([1, 3, 17]), draw.choice([1, 4, 33])
        kernel = [draw.randint(1, 4) for _ in range(3)]
        strides = [draw.randint(1, 3) for _ in range(3)]
        dilations = [draw.randint(1, 2) for _ in range(3)]
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        pads = [draw.randint(0, (r - 1) // 2) for r in reach]
        size = [r + draw.randint(0, 4) for r in reach]
        after = [
            (s - 1) * step - 2 * p + r if transposed else (s + 2 * p - r) // step + 1
            for s, step, p, r in zip(size, strides, pads, reach, strict=True)
        ]
        net = Network(x=(n, c, *size))
        pair = (c, out) if transposed else (out, c)
        given = {"strides": strides, "pads": pads * 2, "dilations": dilations, "group": 1}
        if transposed:
            given["output_padding"] = [0] * 3
        y = net.add(
            "fastgan.ConvTranspose" if transposed else "fastgan.Conv",
            ["x", net.weight(*pair, *kernel, scale=(c * 9) ** -0.5), net.weight(out)],
            (n, out, *after),
            epilogue=Epilogue("leaky_relu", (0.2,), bias=True),
            **given,
        )
        check(net.plan(y), 3e-5, bf16)


@pytest.mark.parametrize("bf16", [False, True])
def test_linear_maps_and_images_of_them(bf16: bool) -> None:
    volume = (2, 9, (3, 4, 5, 6))
    images = (1, 7, (3, 4, 4)), (3, 64, (17, 2, 3))
    for n, rows, shape in (*images, volume, (2, 5, (33,)), (5, 100, (1,))):
        net = Network(z=(n, rows))
        columns = int(np.prod(shape))
        names = ["z", net.weight(rows, columns, scale=rows**-0.5), net.weight(columns)]
        given = {"shape": list(shape)} if len(shape) > 1 else {}
        linear = net.add(
            "fastgan.Linear", names, (n, *shape), epilogue=Epilogue("tanh", bias=True), **given
        )
        check(net.plan(linear), bf16=bf16)


def test_factors_are_rounded_to_bf16() -> None:
    net = Network(x=(2, 19, 7, 5))
    given = {"strides": [1, 1], "pads": [2] * 4, "dilations": [1, 1], "group": 1}
    y = net.add("fastgan.Conv", ["x", net.weight(21, 19, 5, 5)], (2, 21, 7, 5), **given)
    plan = net.plan(y)
    x = torch.randn(2, 19, 7, 5)
    found = native_of(plan, bf16=True)({"x": x})[y]
    rounded = [each.bfloat16().double() for each in (x, plan.weights["w0"])]
    expected = torch.nn.functional.conv2d(*rounded, padding=2)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


#: Convolutions: channels, outputs, kernel, stride, size; and what is rounded in bf16, which is what
#: takes least: no factor, those that there are, or what they become by Winograd's filtering.
FORMS = (
    (1, 32, 4, 2, 64, "none"),  # a pair with nothing: as many products
    (3, 32, 4, 2, 64, "factors"),
    (3, 21, 3, 1, 9, "factors"),
    (5, 40, 3, 2, 33, "factors"),
    (7, 33, 3, 1, 40, "factors"),
    (32, 48, 2, 2, 32, "factors"),
    (33, 64, 4, 2, 32, "factors"),  # an odd channel is beside none of another part
    (64, 64, 3, 1, 8, "filtered"),
    (64, 128, 4, 2, 16, "filtered"),
    (128, 128, 3, 1, 32, "filtered"),
    (32, 32, 3, 1, 32, "none"),  # F(4x4), of floats alone, takes as long
)


def drawn(*shape: int) -> torch.Tensor:
    """The same numbers on every processor, which PyTorch's are not."""
    numbers = np.random.default_rng(shape).standard_normal(shape)
    return torch.from_numpy(numbers.astype(np.float32))


def made_by(
    channels: int, outputs: int, kernel: int, stride: int, size: int
) -> tuple[str, torch.Tensor]:
    """Which form of FORMS a convolution in bf16 takes, and its result."""
    net, pad = Network(x=(2, channels, size, size)), (kernel - 1) // 2
    given = {"strides": [stride] * 2, "pads": [pad] * 4, "dilations": [1, 1], "group": 1}
    weight = net.weight(outputs, channels, kernel, kernel)
    net.weights[weight] = drawn(outputs, channels, kernel, kernel)
    after = (size + 2 * pad - kernel) // stride + 1
    y = net.add("fastgan.Conv", ["x", weight], (2, outputs, after, after), **given)
    factors = drawn(2, channels, size, size), net.weights[weight]
    found = native_of(net.plan(y), bf16=True)({"x": factors[0]})[y]
    errors = []
    for x, w in (factors, [factor.bfloat16() for factor in factors]):
        exact = torch.nn.functional.conv2d(x.double(), w.double(), None, stride, pad)
        errors.append(((found - exact).square().mean() / exact.square().mean()).sqrt().item())
    if min(errors) <= 1e-5:
        return ("factors" if errors[1] < errors[0] else "none"), found
    # 40 dB of images that deviate by a quarter of their range, and an eighth of that.
    assert errors[0] <= 10 ** (-40 / 20) * 4 / 8
    return "filtered", found


@pytest.mark.parametrize("form", FORMS)
def test_in_bf16_is_rounded_what_makes_it_faster(
    form: tuple[int, int, int, int, int, str],
) -> None:
    *layer, rounded = form
    assert made_by(*layer)[0] == rounded


@pytest.mark.parametrize("bf16", [False, True])
def test_a_residual_of_patches_of_few_channels(bf16: bool) -> None:
    """Patches of several pixels, at the edges in part, and a residual that lies as they do."""
    net = Network(x=(2, 24, 9, 7))
    shape = (2, 3, 17, 13)
    given: dict[str, Any] = {"strides": [2, 2], "dilations": [1, 1], "group": 1}
    given |= {"pads": [1, 2, 2, 1], "output_padding": [0, 0]}
    names = ["x", net.weight(24, 3, 4, 4), net.weight(3), net.weight(*shape)]
    epilogue = Epilogue("relu", bias=True, residual=True)
    y = net.add("fastgan.ConvTranspose", names, shape, epilogue=epilogue, **given)
    check(net.plan(y), 3e-5, bf16)


@pytest.mark.parametrize("most", [0, 2, 4])
def test_minimal_filtering(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_MOST_MINIMAL", most)
    given: dict[str, Any] = {"strides": [1, 1], "dilations": [1, 1], "group": 1}
    for n, c, out, h, w, mode, shuffle in (
        (1, 32, 64, 17, 19, None, 1),
        (2, 33, 32, 9, 42, "reflect", 1),
        (3, 48, 20, 18, 15, "edge", 2),
        (1, 96, 256, 4, 30, None, 1),
    ):
        net = Network(x=(n, c, h, w))
        products = out * shuffle**2
        names = ["x", net.weight(products, c, 3, 3, scale=(9 * c) ** -0.5), net.weight(products)]
        own = {"pad_mode": mode} if mode else {}
        if shuffle > 1:
            own |= {"shuffle": shuffle, "shuffle_mode": "CRD"}
        shape = (n, out, h * shuffle, w * shuffle)
        names.append(net.weight(*shape))
        epilogue = Epilogue("relu", bias=True, residual=True)
        y = net.add("fastgan.Conv", names, shape, pads=[1] * 4, epilogue=epilogue, **given, **own)
        names = [y, net.weight(out, c, 6, 6, scale=(9 * out) ** -0.5)]
        shape = (n, c, 2 * shape[2], 2 * shape[3])
        two = {**given, "strides": [2, 2], "output_padding": [0, 0]}
        z = net.add("fastgan.ConvTranspose", names, shape, pads=[2] * 4, **two)
        plan = net.plan(z, y)
        kernel = f"native F({most}x{most})" if most else "native"
        assert [step.kernel for step in native_of(plan).plan.steps] == [kernel] * 2
        check(plan, 4e-6 if most < 4 else 2e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("out", "shuffle"), [(3, 2), (3, 4), (1, 3), (5, 4)])
def test_filtered_tiles_fall_into_pixels_of_few_channels(
    out: int, shuffle: int, residual: bool
) -> None:
    """Rows of patches that end within vectors, of tiles that the image's edges cut off."""
    net, given = Network(x=(2, 32, 18, 21)), {"strides": [1, 1], "dilations": [1, 1], "group": 1}
    products, shape = out * shuffle**2, (2, out, 18 * shuffle, 21 * shuffle)
    names = ["x", net.weight(products, 32, 3, 3, scale=288**-0.5), net.weight(products)]
    names += [net.weight(*shape)] if residual else []
    given |= {"pads": [1] * 4, "shuffle": shuffle, "shuffle_mode": "CRD"}
    epilogue = Epilogue("leaky_relu", (0.3,), bias=True, residual=residual)
    plan = net.plan(net.add("fastgan.Conv", names, shape, epilogue=epilogue, **given))
    if products >= 48:
        assert native_of(plan).plan.steps[0].kernel == "native F(4x4)"
    check(plan, 2e-5)


@pytest.mark.parametrize(("most", "tile"), [(0, 0), (2, 2), (4, 3)])
def test_minimal_filtering_of_two_taps(
    most: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels of 4 and stride 2, of each kind, in patches too; and enlarged inputs."""
    monkeypatch.setattr(layers, "_MOST_MINIMAL", most)
    given: dict[str, Any] = {"dilations": [1, 1], "group": 1, "pads": [1] * 4}
    two = {**given, "strides": [2, 2]}
    for n, c, out, h, w, mode in ((1, 96, 64, 17, 19, None), (2, 123, 96, 20, 13, "reflect")):
        net = Network(x=(n, c, 2 * h, 2 * w))
        own = {"pad_mode": mode} if mode else {}
        names = ["x", net.weight(out, c, 4, 4, scale=(16 * c) ** -0.5), net.weight(out)]
        epilogue = Epilogue("leaky_relu", (0.2,), bias=True)
        y = net.add("fastgan.Conv", names, (n, out, h, w), epilogue=epilogue, **two, **own)
        names = [y, net.weight(out, c, 4, 4, scale=(4 * out) ** -0.5)]
        after = {**two, "output_padding": [0, 0]}
        z = net.add("fastgan.ConvTranspose", names, (n, c, 2 * h, 2 * w), **after)
        names = [y, net.weight(c, out, 3, 3, scale=(9 * out) ** -0.5)]
        one = {**given, "strides": [1, 1], "upsample": 1, **own}
        enlarged = net.add("fastgan.Conv", names, (n, c, 2 * h, 2 * w), **one)
        names = [z, net.weight(c, 3, 4, 4, scale=(4 * c) ** -0.5), net.weight(3)]
        epilogue = Epilogue("tanh", bias=True)
        shape = (n, 3, 4 * h, 4 * w)
        image = net.add("fastgan.ConvTranspose", names, shape, epilogue=epilogue, **after)
        plan = net.plan(enlarged, image)
        kernel = f"native F({tile}x{tile})" if tile else "native"
        kernels = [step.kernel for step in native_of(plan).plan.steps]
        # What is reflected is enlarged before, and then has 3 taps.
        assert kernels[:2] == [kernel] * 2
        assert mode or kernels[2] == kernel
        assert tile != 3 or kernels[3] == kernel
        check(plan)


@pytest.mark.parametrize("mode", [None, "reflect", "edge"])
@pytest.mark.parametrize("shuffle", [1, 2])
def test_minimal_filtering_in_bf16(mode: str | None, shuffle: int) -> None:
    """Of numbers whose sums are of few bits: so what the filtering makes of them is not rounded."""
    own: dict[str, Any] = {"pad_mode": mode} if mode else {}
    own |= {"shuffle": shuffle, "shuffle_mode": "CRD"} if shuffle > 1 else {}
    given: dict[str, Any] = {"dilations": [1, 1], "group": 1, "pads": [1] * 4}
    for n, c, out, h, w, kernel, transposed, tile in (
        (1, 96, 64, 17, 19, 3, False, 2),
        (2, 64, 128, 16, 14, 3, False, 2),
        (2, 128, 96, 34, 36, 4, False, 3),
        (3, 96, 64, 20, 13, 4, True, 3),
    ):
        if transposed and own:
            continue
        stride, products = kernel - 2, out * shuffle**2
        net = Network(x=(n, c, h, w))
        after = [2 * s if transposed else s // stride for s in (h, w)]
        shape = (n, out, *(shuffle * a for a in after))
        pair = (c, out) if transposed else (products, c)
        names = ["x", net.weight(*pair, kernel, kernel), net.weight(products), net.weight(*shape)]
        epilogue = Epilogue("leaky_relu", (0.2,), bias=True, residual=True)
        more = {"output_padding": [0, 0]} if transposed else own
        op = "fastgan.ConvTranspose" if transposed else "fastgan.Conv"
        settings = {**given, **more, "strides": [stride] * 2}
        plan = net.plan(net.add(op, names, shape, epilogue=epilogue, **settings))
        assert native_of(plan, bf16=True).plan.steps[0].kernel == f"native F({tile}x{tile})"
        check(plan, 1e-5, bf16=True)


@pytest.mark.parametrize(("kernel", "transposed"), [(3, False), (4, False), (4, True)])
def test_in_bf16_poison_stays_in_its_windows(kernel: int, transposed: bool) -> None:
    net, stride, channels = Network(x=(1, 128, 32, 32)), kernel - 2, 128
    given: dict[str, Any] = {"dilations": [1, 1], "group": 1, "pads": [1] * 4}
    given |= {"strides": [stride] * 2} | ({"output_padding": [0, 0]} if transposed else {})
    size = 64 if transposed else 32 // stride
    op = "fastgan.ConvTranspose" if transposed else "fastgan.Conv"
    y = net.add(op, ["x", net.weight(channels, channels, kernel, kernel)], (1, 128, size, size),
                **given)  # fmt: skip
    native = native_of(net.plan(y), bf16=True)
    assert "F(" in native.plan.steps[0].kernel
    x = torch.randn(1, channels, 32, 32)
    clean = native({"x": x})[y]
    x[0, 5, 7, 9], x[0, 127, 31, 0] = torch.nan, torch.inf
    run = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
    ones = torch.ones(channels, channels, kernel, kernel)
    reached = run((~x.isfinite()).float(), ones, stride=stride, padding=1) > 0.5
    made = native({"x": x})[y]
    assert torch.equal(~made.isfinite(), reached)
    near = (made - clean)[~reached].abs().max()
    assert near <= 2e-2 * clean.abs().max()  # a zero is beside it in its tile now, so others round


@pytest.mark.parametrize(
    ("channels", "size", "kernel"),
    [
        (64, 24, "native F(4x4)"),
        (2048, 16, "native F(2x2)"),  # the error of longer sums is beyond what F(4x4) may have
        (384, 8, "native F(2x2)"),  # tiles so few that F(4x4) reads its weights for nothing
        (384, 4, "native"),
    ],
)
def test_the_form_is_chosen_by_time_and_error(channels: int, size: int, kernel: str) -> None:
    net = Network(x=(1, channels, size, size))
    weight = net.weight(32, channels, 3, 3)
    given = {"strides": [1, 1], "dilations": [1, 1], "pads": [1] * 4, "group": 1}
    y = net.add("fastgan.Conv", ["x", weight], (1, 32, size, size), **given)
    native = native_of(net.plan(y))
    assert [step.kernel for step in native.plan.steps] == [kernel]
    x = 2 * torch.rand(1, channels, size, size) - 1
    exact = torch.nn.functional.conv2d(x.double(), net.weights[weight].double(), padding=1)
    error = native({"x": x})[y] - exact
    # An eighth of the tolerance, and a little for a sample that is not the one of the measurement.
    allowed = TOLERANCES["fp32"].max_abs / 8 * 1.1  # type: ignore[operator]
    assert error.square().mean().sqrt() <= allowed * exact.square().mean().sqrt()
