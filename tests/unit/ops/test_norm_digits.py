"""Norms keep their digits where a mean is far above the deviation, and are right for one pixel."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

import fastgan
from fastgan.engine.native import graph as native_graph

RATIOS = (0, 10, 100, 1000)
CHANNELS, SIZE = 16, 24


def constant(name: str, array: Any, dtype: str = "f") -> onnx.TensorProto:
    return nh.from_array(np.asarray(array, dtype), name)


def by_hand(axes: list[int]) -> list[onnx.NodeProto]:
    """a -> y, from ReduceMean to Div."""
    return [
        h.make_node("ReduceMean", ["a"], ["mean"], axes=axes, keepdims=1),
        h.make_node("Sub", ["a", "mean"], ["centred"]),
        h.make_node("Pow", ["centred", "two"], ["squares"]),
        h.make_node("ReduceMean", ["squares"], ["variance"], axes=axes, keepdims=1),
        h.make_node("Add", ["variance", "epsilon"], ["spread"]),
        h.make_node("Sqrt", ["spread"], ["deviation"]),
        h.make_node("Div", ["centred", "deviation"], ["y"]),
    ]


def last(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes over the last axis, t -> u, as tokens of the image a."""
    before = h.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1])
    return [before, *nodes, h.make_node("Transpose", ["u"], ["y"], perm=[0, 3, 1, 2])]


ONES = ["ones", "zeros"]
STATISTICS = [*ONES, "zeros", "ones"]
FORMS = {
    "instance": ([h.make_node("InstanceNormalization", ["a", *ONES], ["y"])], (2, 3), 2),
    "group": ([h.make_node("GroupNormalization", ["a", *ONES], ["y"], num_groups=4)], "group", 2),
    "batch": (
        [h.make_node("BatchNormalization", ["a", *STATISTICS], ["y", "m", "v"], training_mode=1)],
        (0, 2, 3),
        2,
    ),
    "batch of one": (
        [h.make_node("BatchNormalization", ["a", *STATISTICS], ["y", "m", "v"], training_mode=1)],
        (0, 2, 3),
        1,
    ),
    "layer": (last(h.make_node("LayerNormalization", ["t", *ONES], ["u"], axis=-1)), (1,), 2),
    "mean and variance": ([h.make_node("MeanVarianceNormalization", ["a"], ["y"])], (0, 2, 3), 2),
    "by hand over space": (by_hand([2, 3]), (2, 3), 2),
    "by hand over samples": (by_hand([1, 2, 3]), (1, 2, 3), 2),
    "by hand over channels": (by_hand([1]), (1,), 2),
}


def definition(x: torch.Tensor, over: Any, epsilon: float) -> np.ndarray:
    """In float64."""
    x = x.double()
    if over == "group":
        return definition(x.unflatten(1, (4, -1)), (2, 3, 4), epsilon).reshape(x.shape)
    centred = x - x.mean(over, keepdim=True)
    return (centred / (centred.square().mean(over, keepdim=True) + epsilon).sqrt()).numpy()


@pytest.mark.parametrize(("activation", "native"), [(None, True), ("Relu", False)])
@pytest.mark.parametrize("form", FORMS)
def test_far_from_zero(form, activation, native, monkeypatch):
    """In native code, and without it."""
    if not native:
        monkeypatch.setattr(native_graph, "_native", None)
    nodes, over, samples = FORMS[form]
    opset = 21 if form == "group" else 17
    rows = ["x", "identity"]
    nodes = [h.make_node("Conv", rows, ["a"]), *nodes]
    if activation:
        nodes = [*nodes, h.make_node(activation, ["y"], ["z"])]
    shape = [samples, CHANNELS, SIZE, SIZE]
    graph = h.make_graph(
        nodes,
        "norm",
        [h.make_tensor_value_info("x", T.FLOAT, shape)],
        [h.make_tensor_value_info("z" if activation else "y", T.FLOAT, shape)],
        [
            constant("identity", np.eye(CHANNELS).reshape(CHANNELS, CHANNELS, 1, 1)),
            constant("ones", np.ones(CHANNELS)),
            constant("zeros", np.zeros(CHANNELS)),
            constant("two", 2.0),
            constant("epsilon", 1e-5),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=10)
    g = fastgan.load(model.SerializeToString(), device="cpu", backend="torch", strict=True)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for ratio in RATIOS:
        x = noise + ratio
        found = next(iter(g.run({"x": x.numpy()}).values())).numpy()
        wanted = definition(x, over, 0.0 if form == "mean and variance" else 1e-5)
        wanted = np.maximum(wanted, 0) if activation else wanted
        # A mean in float32 is a unit in its last place off, over a deviation of few values.
        assert np.abs(found - wanted).max() < 3e-6 + 4e-7 * ratio


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("size", [[1, 1], [1]])
@pytest.mark.parametrize("operator", ["InstanceNormalization", "GroupNormalization"])
def test_of_one_pixel(operator, size, samples):
    """As many groups as channels: nothing is left but the shift."""
    given = {"num_groups": 4} if operator == "GroupNormalization" else {}
    names = ["n", 4, *"hw"[: len(size)]]
    for parameters in (["gamma", "beta"], ["g", "b"]):  # constants, and inputs
        inputs = [] if parameters[0] == "gamma" else parameters
        graph = h.make_graph(
            [h.make_node(operator, ["x", *parameters], ["y"], **given)],
            "norm",
            [
                h.make_tensor_value_info("x", T.FLOAT, names),
                *[h.make_tensor_value_info(name, T.FLOAT, [4]) for name in inputs],
            ],
            [h.make_tensor_value_info("y", T.FLOAT, names)],
            [] if inputs else [constant("gamma", np.ones(4)), constant("beta", np.arange(4))],
        )
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10)
        g = fastgan.load(model.SerializeToString(), device="cpu", backend="torch", strict=True)
        x = np.random.default_rng(0).random((samples, 4, *size)).astype("f")
        values = dict(zip(inputs, (np.ones(4, "f"), np.arange(4, dtype="f")), strict=False))
        found = g.run({"x": x, **values})["y"].numpy().reshape(samples, 4)
        np.testing.assert_allclose(found, np.tile(np.arange(4), (samples, 1)), atol=1e-6)
