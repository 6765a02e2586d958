"""Norms in the native graph, held to PyTorch's own ops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastgan.engine.library.executor import PlanExecutable
from fastgan.engine.native import graph
from fastgan.plan import Epilogue
from tests.unit.engine.native_networks import (
    CPU,
    OPSET,
    Network,
    bind,
    check,
    native_of,
    other,
    threads,
)

__all__ = ["threads"]

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("over", ["space", "last", "channels"])
@pytest.mark.parametrize("centre", [0, 1])
def test_norms(over: str, centre: int) -> None:
    for n, c, h, w in ((1, 4, 3, 5), (3, 18, 7, 9), (2, 36, 40, 50), (1, 600, 3, 2)):
        net = Network(x=(n, c, h, w), r=(n, c, h, w), g=(n, c))
        size = w if over == "last" else c
        gamma = "g" if over == "space" else net.weight(size)
        names = ["x", gamma, net.weight(size), "r"]
        given: dict[str, Any] = {"over": over, "centre": centre, "epsilon": 1e-5}
        if over == "space":
            given["groups"] = c if n == 1 else c // 2
        first = net.add(
            "fastgan.Normalise",
            names,
            (n, c, h, w),
            epilogue=Epilogue("leaky_relu", (0.2,), residual=True),
            **given,
        )
        both = net.add("Concat", [first, "x"], (n, 2 * c, h, w), axis=1)
        check(net.plan(both), 2e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("groups", [4, 18])
def test_norms_of_volumes(groups: int, residual: bool) -> None:
    shape = (2, 36, 3, 4, 5)
    net = Network(x=shape, r=shape)
    names = ["x", net.weight(36), net.weight(36), *["r"] * residual]
    given = {"over": "space", "groups": groups, "centre": 1, "epsilon": 1e-5}
    fused = Epilogue("silu", residual=residual)
    normed = net.add("fastgan.Normalise", names, shape, epilogue=fused, **given)
    both = net.add("Concat", [normed, "x"], (2, 72, 3, 4, 5), axis=1)
    check(net.plan(both), 2e-5)


def test_a_volume_whose_slices_lie_apart_is_left_to_the_library() -> None:
    net = Network(x=(2, 4, 5, 3, 6))
    turned = net.add("Transpose", ["x"], (2, 6, 3, 4, 5), perm=(0, 4, 3, 1, 2))
    given = {"over": "space", "groups": 2, "centre": 1, "epsilon": 1e-5}
    normed = net.add("fastgan.Normalise", [turned], (2, 6, 3, 4, 5), **given)
    sizes: dict[str, Any] = {"keepdims": 1}
    mean = net.add("ReduceMean", [normed, net.host([2])], (2, 6, 1, 4, 5), **sizes)
    last = net.add("ReduceMax", [mean, net.host([3])], (2, 6, 1, 1, 5), **sizes)
    for axis in (1, 4):
        shape = [*net.shapes[last]]
        shape[axis] = 1
        last = net.add("ReduceMean", [last, net.host([axis])], tuple(shape), **sizes)
    plan = net.plan(normed, last)
    made = graph.executable(plan, OPSET, bind, other)
    assert isinstance(made, graph.MixedExecutable)
    notes = {step.op: step.note for step in made.plan.steps}
    assert notes["fastgan.Normalise"] == "no native code for a volume whose slices lie apart"
    steps = [bind(plan, index) for index in range(len(plan.steps))]
    x = torch.randn(2, 4, 5, 3, 6)
    expected = PlanExecutable(plan, steps, CPU, torch.float32)({"x": x})
    found = made({"x": x})
    for name in plan.outputs:
        assert torch.allclose(found[name], expected[name], atol=2e-5)


@pytest.mark.parametrize("joined", [False, True])
def test_images_of_one_axis_where_no_convolution_is(joined: bool) -> None:
    """A mid-block's attention: tokens are normalised before any layer says how they lie."""
    net = Network(x=(2, 24, 4, 5))
    x = net.add("Reshape", ["x", net.host([2, 24, 20])], (2, 24, 20))
    affine = [net.weight(24), net.weight(24)]
    given = {"over": "space", "groups": 4, "centre": 1, "epsilon": 1e-5}
    normed = net.add("fastgan.Normalise", [x, *affine], (2, 24, 20), **given)
    pooled = net.add("MaxPool", [normed], (2, 24, 10), kernel_shape=(2,), strides=(2,))
    mean = net.add("ReduceMean", [normed, net.host([2])], (2, 24, 1), keepdims=1)
    outputs = [normed, pooled, mean]
    if joined:
        parts = [x, *outputs]
        outputs = [
            net.add("Concat", parts, (2, 24, 51), axis=2),
            net.add("Neg", [mean], (2, 24, 1)),
        ]
    turned = net.add("Transpose", [normed], (2, 20, 24), perm=(0, 2, 1))
    check(net.plan(*outputs, turned))


def test_norms_keep_the_digits_of_far_means() -> None:
    net = Network(x=(1, 3, 16, 16))
    far = net.add("Add", ["x", net.host([1e4], torch.float32)], (1, 3, 16, 16))
    norm = net.add(
        "fastgan.Normalise", [far], (1, 3, 16, 16), over="space", groups=3, centre=1, epsilon=1e-5
    )
    plan = net.plan(norm)
    x = torch.randn(1, 3, 16, 16)
    wide = (x + 1e4).double()
    expected = torch.nn.functional.instance_norm(wide, eps=1e-5)
    found = native_of(plan)({"x": x})[norm]
    assert (found - expected).abs().max() <= 1e-5
