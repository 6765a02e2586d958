"""Nodes that draw: the same numbers on every run, others in every node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from fastgan import latents, onnx_backend
from fastgan.ops import random as noise_ops

pytestmark = pytest.mark.usefixtures("one_thread")


def noise_model(op: str, nodes: int = 1, **attributes: Any) -> onnx.ModelProto:
    like = op.endswith("Like")
    made = [
        helper.make_node(op, ["x"] if like else [], [f"n{i}"], **attributes) for i in range(nodes)
    ]
    made.append(helper.make_node("Concat", [f"n{i}" for i in range(nodes)], ["y"], axis=1))
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 8])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def drawn(model: onnx.ModelProto, count: int) -> np.ndarray:
    return onnx_backend.run_model(model, [np.zeros((count, 8), np.float32)])[0]


def test_noise_is_the_same_on_every_run_and_for_every_batch() -> None:
    model = noise_model("RandomNormalLike")
    many = drawn(model, 64)
    np.testing.assert_array_equal(many, drawn(model, 64))
    np.testing.assert_array_equal(many[:5], drawn(model, 5))
    expected = latents.sample("normal", 64, (8,), stream=noise_ops.FIRST_STREAM)
    np.testing.assert_array_equal(many, expected.numpy())


def test_noise_differs_from_node_to_node() -> None:
    y = drawn(noise_model("RandomNormalLike", nodes=2), 16)
    assert not np.isin(y[:, :8], y[:, 8:]).any()


def test_noise_has_the_distribution_asked_for() -> None:
    normal = drawn(noise_model("RandomNormalLike", mean=3.0, scale=0.5), 20_000)
    assert abs(normal.mean() - 3) < 0.01
    assert abs(normal.std() - 0.5) < 0.01
    uniform = drawn(noise_model("RandomUniformLike", low=-2.0, high=4.0), 20_000)
    assert -2 <= uniform.min() < -1.99
    assert 3.99 < uniform.max() < 4
    assert abs(uniform.mean() - 1) < 0.03


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform"])
def test_noise_of_a_fixed_shape_is_drawn_when_the_model_runs(op: str) -> None:
    representation = onnx_backend.prepare(noise_model(op, shape=[3, 8]))
    x = np.zeros((1, 8), np.float32)
    (first,) = representation.run([x])
    assert [step.op for step in representation.plans[0].steps] == [op]
    with noise_ops.using_noise(lambda shape, distribution, node: torch.zeros(shape)):
        (off,) = representation.run([x])
    assert first.any()
    assert not off.any()
    np.testing.assert_array_equal(first, representation.run([x])[0])
