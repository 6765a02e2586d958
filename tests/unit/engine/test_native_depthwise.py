"""Convolutions of groups, and of each channel by itself, of the native graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastgan.engine.native import layers
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
def test_groups_and_depthwise(bf16: bool) -> None:
    draw = drawing.new_random()
    for c, out, groups in ((6, 6, 6), (13, 13, 13), (4, 8, 2), (24, 36, 4), (3, 3, 3)):
        for axes in (1, 2):
            net = Network(x=(2, c, *(draw.randint(3, 9) for _ in range(axes))))
            check(net.plan(add_convolution(net, draw, "x", out, groups)), 3e-5, bf16)


@pytest.fixture
def by_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Depthwise layers have the channels of a pixel side by side, as amid others."""
    monkeypatch.setattr(layers, "_in_planes", lambda *given: False)


@pytest.mark.usefixtures("by_pixel")
@pytest.mark.parametrize("stride", [1, 2])
def test_wide_images_channel_by_channel(stride: int) -> None:
    """Strips of pixels that reach over no edge, and those beside them."""
    for c, size, kernel, dilation in (
        (5, 40, 3, 1),
        (24, 37, 7, 1),
        (16, 44, 3, 5),
        (35, 33, 9, 1),
    ):
        net = Network(x=(2, c, size, size))
        reach = dilation * (kernel - 1)
        after = (size - 1) // stride + 1
        given = {"strides": [stride] * 2, "pads": [reach // 2] * 4, "dilations": [dilation] * 2}
        names = ["x", net.weight(c, 1, kernel, kernel, scale=1 / kernel), net.weight(c)]
        shape = (2, c, after, after)
        y = net.add("fastgan.Conv", names, shape, group=c, epilogue=Epilogue(bias=True), **given)
        check(net.plan(y), 3e-5)


@pytest.mark.usefixtures("by_pixel")
@pytest.mark.parametrize("mode", [None, "reflect", "edge"])
@pytest.mark.parametrize("stride", [1, 2])
def test_small_images_channel_by_channel(stride: int, mode: str | None) -> None:
    """Where most pixels lie near an edge: what is beyond it is copied beside the image first."""
    own = {"pad_mode": mode} if mode else {}
    for c, height, width, kernel, dilation in (
        (24, 32, 32, 7, 3),
        (17, 8, 8, 3, 1),
        (5, 6, 11, 5, 1),
        (40, 9, 2, 3, 1),
        (6, 7, 26, 3, 2),
    ):
        net = Network(x=(3, 2 * c, height, width))
        bounds = [net.host([1]), net.host([c + 1]), net.host([1])]
        part = net.add("Slice", ["x", *bounds], (3, c, height, width))
        pad = min(dilation * (kernel - 1) // 2, min(height, width) - 1)
        reach = dilation * (kernel - 1)
        after = [(size + 2 * pad - reach - 1) // stride + 1 for size in (height, width)]
        if min(after) < 1:
            continue
        given = {"strides": [stride] * 2, "pads": [pad] * 4, "dilations": [dilation] * 2, **own}
        names = [part, net.weight(c, 1, kernel, kernel, scale=1 / kernel), net.weight(c)]
        epilogue = Epilogue("relu", bias=True)
        y = net.add("fastgan.Conv", names, (3, c, *after), group=c, epilogue=epilogue, **given)
        check(net.plan(y), 3e-5)


@pytest.mark.parametrize("mode", [None, "reflect", "edge"])
@pytest.mark.parametrize("axes", [1, 2])
def test_channels_one_behind_another(
    axes: int, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyTorch computes them, and with the bits of pixels whose channels are side by side."""
    draw = drawing.new_random()
    for size in (3, 16, 17, 33, 70, 300):
        for kernel in (1, 3, 4, 5, 7):
            stride, dilation = draw.randint(1, 3), draw.choice([1, 2, 3, 8])
            reach, c = dilation * (kernel - 1), draw.choice([1, 3, 6])
            sizes = [draw.randint(3, 40), size][2 - axes :]
            most = min(sizes) - 1 if mode else 30
            pads = [
                min(most, draw.choice([reach // 2, reach // 2 + 1, 0])) for _ in range(2 * axes)
            ]
            after = [
                (s + pads[i] + pads[i + axes] - reach - 1) // stride + 1
                for i, s in enumerate(sizes)
            ]
            if min(after) < 1:
                continue
            net = Network(x=(2, c, *sizes))
            names = ["x", net.weight(c, 1, *[kernel] * axes, scale=1 / kernel), net.weight(c)]
            given: dict[str, Any] = {"strides": [stride] * axes, "pads": pads, "group": c}
            given |= {"dilations": [dilation] * axes} | ({"pad_mode": mode} if mode else {})
            epilogue = draw.choice(
                [Epilogue("prelu", slopes=(0.2,) * c, bias=True), Epilogue("silu", bias=True)]
            )
            y = net.add("fastgan.Conv", names, (2, c, *after), epilogue=epilogue, **given)
            plan = net.plan(y)
            check(plan, 3e-5)
            x = torch.randn(2, c, *sizes)
            found = native_of(plan)({"x": x})[y]
            with monkeypatch.context() as patch:
                patch.setattr(layers, "_in_planes", lambda *given: False)
                assert torch.equal(found, native_of(plan)({"x": x})[y]), net.steps[-1]
