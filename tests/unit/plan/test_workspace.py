"""What a step takes on its way counts among what a plan holds, before anything is allocated."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import fastgan
from fastgan import LimitError, Limits
from fastgan.model.file import read
from fastgan.plan import make
from tests.unit.models import graph_model, value

MUCH = 1 << 20


def model(op: str, **attributes: object) -> bytes:
    node = helper.make_node(op, ["x", "w"] if "Conv" in op else ["x"], ["y"], **attributes)
    weights = {"w": np.ones((4, 4, 3, 3), np.float32)} if "Conv" in op else {}
    return graph_model([node], [value("x", [1, 4, 32, 32])], weights=weights)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Conv", {"pads": [MUCH, MUCH, MUCH, 0], "strides": [MUCH, MUCH]}),
        ("ConvTranspose", {"pads": [MUCH // 2] * 4, "strides": [MUCH // 31] * 2}),
        ("ConvTranspose", {"pads": [MUCH, MUCH, MUCH, MUCH - 1], "strides": [2 * MUCH // 31] * 2}),
    ],
)
def test_a_small_result_by_way_of_a_large_one(op: str, attributes: dict[str, object]) -> None:
    with pytest.raises(LimitError, match=r"at once.*Limits\.activation_bytes"):
        fastgan.load(model(op, **attributes), device="cpu")


@pytest.mark.parametrize("pads", [[1] * 4, [0, 1, 1, 1]])
def test_uneven_pads_are_held_beside_the_result(pads: list[int]) -> None:
    plan = make(read(model("Conv", pads=pads)).model, {"x": (1, 4, 32, 32)})
    padded = 0 if len(set(pads)) == 1 else 4 * 4 * 33 * 34
    assert plan.steps[0].workspace == padded
    held = sum(buffer.bytes for buffer in plan.buffers.values())
    assert plan.memory_bytes == held + padded


def test_the_limit_that_is_asked_for() -> None:
    data = model("Conv", pads=[0, 0, 0, 4096], strides=[1, 4096])
    limits = Limits(activation_bytes=1 << 20)
    with pytest.raises(LimitError, match=r"Limits\.activation_bytes"):
        fastgan.load(data, device="cpu", limits=limits)
    assert fastgan.load(data, device="cpu").plan() is not None
