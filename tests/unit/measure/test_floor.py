"""The cost model: floors from published figures, with no GPU and no Triton."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastgan.measure.floor import LAUNCH, floor
from fastgan.measure.published import GPUS, Gpu
from fastgan.plan import Buffer, Epilogue, Plan, Step

TOY = Gpu("toy", {"fp32": 1e9, "fp16": 1e12, "fp8": 2e12}, 1e9, "made up")


def _plan(*steps: Step, **shapes: tuple[int, ...]) -> Plan:
    buffers = {name: Buffer(name, shape, torch.float32) for name, shape in shapes.items()}
    return Plan(("x",), (steps[-1].outputs[0],), steps, buffers, {"w": torch.zeros(8, 8, 3, 3)})


def _conv(flops: int) -> Step:
    return Step("fastgan.Conv", ("x", "w"), ("y",), {"group": 1}, Epilogue(), flops=flops)


def test_a_step_takes_the_most_of_three() -> None:
    shape = (4, 8, 16, 16)
    moved = 2 * 4 * 8 * 16 * 16 + 8 * 8 * 9
    for flops, bound in ((10**9, "compute"), (10, "memory")):
        (step,) = floor(_plan(_conv(flops), x=shape, y=shape), TOY, "fp16").steps
        assert step.compute == flops / 1e12
        assert step.memory == pytest.approx(2 * moved / 1e9)
        assert step.bound == bound
        assert step.seconds == max(step.compute, step.memory)
    (step,) = floor(_plan(_conv(10), x=(1, 1, 1, 1), y=(1, 1, 1, 1)), TOY, "fp16").steps
    assert step.memory == pytest.approx(2 * (2 + 8 * 8 * 9) / 1e9)
    (step,) = floor(_plan(_conv(10), x=(1, 1), y=(1, 1)), GPUS["h200"], "fp16").steps
    assert (step.bound, step.seconds) == ("launch", LAUNCH)
    (step,) = floor(_plan(_conv(10), x=shape, y=shape), TOY, "fp8").steps
    assert step.memory == pytest.approx(2 * moved / 1e9)


def test_large_layers_in_8_bits() -> None:
    first = Step("fastgan.Linear", ("z", "w"), ("x",), flops=10**9)
    large = Step("fastgan.Conv", ("x", "v"), ("y",), {"group": 1}, flops=10**9)
    last = Step("fastgan.Conv", ("y", "u"), ("out",), {"group": 1}, flops=10**9)
    shapes = {"z": (2, 8), "x": (2, 128, 4, 4), "y": (2, 128, 4, 4), "out": (2, 3, 4, 4)}
    plan = _plan(first, large, last, **shapes)
    weights = {"w": (8, 2048), "v": (128, 128, 3, 3), "u": (3, 128, 1, 1)}
    plan = replace(plan, weights={name: torch.zeros(shape) for name, shape in weights.items()})
    elements = 2 * 128 * 16
    found, half = (floor(plan, TOY, precision).steps for precision in ("fp8", "fp16"))
    assert [step.compute for step in found] == [1e-3, 0.5e-3, 1e-3]
    # What the first writes, and what the second reads and multiplies with.
    saved = [elements, elements + 128 * 128 * 9, 0]
    moved = [(a.memory - b.memory) * 1e9 for a, b in zip(half, found, strict=True)]
    assert moved == pytest.approx(saved)


def test_a_filter_of_each_channel_is_no_matrix_product() -> None:
    shape, weights = (4, 8, 16, 16), {"w": torch.zeros(8, 1, 3, 3)}
    for op in ("fastgan.Conv", "fastgan.ConvTranspose"):
        step = Step(op, ("x", "w"), ("y",), {"group": 8}, Epilogue(), flops=10**6)
        plan = replace(_plan(step, x=shape, y=shape), weights=weights)
        for precision in ("fp16", "fp8"):
            (found,) = floor(plan, TOY, precision).steps
            assert found.compute == 10**6 / TOY.rates["fp32"]
            assert found.memory == pytest.approx(2 * (2 * 4 * 8 * 16 * 16 + 72) / 1e9)


def test_what_moves_nothing_takes_no_time() -> None:
    rename = Step("Reshape", ("x",), ("y",))
    join = Step("Concat", ("y", "y"), ("z",), {"axis": 1})
    norm = Step("fastgan.Normalise", ("z",), ("out",), {"over": "space", "centre": 1}, flops=100)
    shape = (2, 4, 8, 8)
    plan = _plan(rename, join, norm, x=(2, 256), y=shape, z=(2, 8, 8, 8), out=(2, 8, 8, 8))
    found = floor(plan, TOY, "fp32")
    assert [step.bound for step in found.steps] == ["", "", "memory"]
    # Its input is read twice, which the network's own roofline does not count.
    assert found.seconds == pytest.approx(3 * 4 * 1024 / 1e9)
    assert found.share == pytest.approx(2 / 3)


def test_a_convolution_measures_for_the_norm_behind_it() -> None:
    norm = Step("fastgan.Normalise", ("y",), ("z",), {"over": "space", "centre": 1}, flops=100)
    shape = (2, 8, 8, 8)
    found = floor(_plan(_conv(10), norm, x=shape, y=shape, z=shape), TOY, "fp32")
    # The norm reads its input once, in two launches.
    assert found.steps[1].memory == pytest.approx(2 * 4 * 1024 / 1e9)
    assert found.steps[1].launch == pytest.approx(2 * LAUNCH)


def test_a_convolution_applies_the_norm_before_it() -> None:
    """A 1x1 one: the norm makes no image, and only merges what the convolution before measured."""
    norm = Step("fastgan.Normalise", ("y",), ("z",), {"over": "space", "centre": 1}, flops=100)
    shape = (2, 8, 8, 8)
    reader = Step("fastgan.Conv", ("z", "w1"), ("out",), {}, flops=10)
    plan = _plan(_conv(10), norm, reader, x=shape, y=shape, z=shape, out=shape)
    weights = {**plan.weights, "w1": torch.zeros(8, 8, 1, 1)}
    found = floor(replace(plan, weights=weights), TOY, "fp32")
    assert found.steps[1].memory == found.steps[1].compute == 0
    assert found.steps[1].launch == pytest.approx(LAUNCH)
    assert found.steps[2].memory == pytest.approx(4 * (2 * 1024 + 64) / 1e9)


def test_data_sheets_are_consistent() -> None:
    assert set(GPUS) == {"t4", "a100", "rtx4090", "l4", "h100", "h200", "b200"}
    for gpu in GPUS.values():
        assert gpu.source
        assert gpu.rates["fp32"] < gpu.rates["fp16"]
        assert gpu.rates.get("fp8", 1e20) > gpu.rates["fp16"]
