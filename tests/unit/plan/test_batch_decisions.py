"""Graphs that do something else at some batch, or make one thing of all samples on purpose."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import fastgan
from tests.unit.models import graph_model, value

SIZES = (1, 2, 3, 5, 7, 8, 120)
I64, F32 = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT


def node(op: str, inputs: str, output: str, **given: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **given)


def by_condition(*deciding: onnx.NodeProto) -> list[onnx.NodeProto]:
    """y = 2 x or -x, by the condition c that is made of the batch n."""
    branches = {
        f"{name}_branch": helper.make_graph([made], name, [], [value(made.output[0])])
        for name, made in (("then", node("Mul", "x two", "t")), ("else", node("Neg", "x", "e")))
    }
    return [*SIZE, *deciding, node("If", "c", "y", **branches)]


def scaled(*deciding: onnx.NodeProto) -> list[onnx.NodeProto]:
    """y = k x, by a number k that is made of the batch as a float f."""
    return [*SIZE, node("Cast", "n", "f", to=F32), *deciding, node("Mul", "x k", "y")]


SIZE = [node("Shape", "x", "s"), node("Gather", "s zero", "n")]
NUMBERS = {"zero": 0, "one": 1, "three": 3, "four": 4, "hundred": 100}
WEIGHTS = {
    **{name: np.array(number, np.int64) for name, number in NUMBERS.items()},
    "two": np.float32(2),
    "six": np.float32(6),
    "none": np.zeros(1, np.int64),
    "some": np.array([100], np.int64),
    "mixed": np.array([1, -1, 3]),
}
OTHERWISE = {
    "one": by_condition(node("Equal", "n one", "c")),
    "three": by_condition(node("Equal", "n three", "c")),
    "more than one": by_condition(node("Greater", "n one", "c")),
    "a hundred or more": by_condition(node("GreaterOrEqual", "n hundred", "c")),
    "odd": by_condition(node("Mod", "n three", "m"), node("Cast", "m", "c", to=9)),
    "the lesser": scaled(node("Min", "f six", "k")),
    "the greater": scaled(node("Max", "f six", "g"), node("Div", "g six", "k")),
    "at most a hundred": [node("Slice", "x none some none", "y")],
}
OF_ALL = {
    "a mean": [node("Reshape", "x mixed", "a"), node("ReduceMean", "a one1", "y", keepdims=0)],
    "a softmax": [node("Reshape", "x mixed", "a"), node("Softmax", "a", "y", axis=1)],
}
AS_EVER = {
    "one at least": by_condition(
        node("Max", "n one", "m"), node("Less", "m n", "l"), node("Not", "l", "c")
    ),
    "none": by_condition(node("Equal", "n zero", "c")),
    "by fours": by_condition(
        node("Mul", "n four", "m"), node("Mod", "m four", "r"), node("Equal", "r zero", "c")
    ),
}


def loaded(nodes: list[onnx.NodeProto], backend: str) -> tuple[fastgan.Generator, bytes]:
    weights = WEIGHTS | {"one1": np.array([1])}
    data = graph_model(nodes, [value("x", ["n", 3])], weights=weights)
    return fastgan.load(data, device="cpu", backend=backend, strict=True), data


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize("name", [*OTHERWISE, *OF_ALL])
def test_all_samples_run_together(name: str, backend: str) -> None:
    g, data = loaded({**OTHERWISE, **OF_ALL}[name], backend)
    assert not g.signature.made.apart
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for n in SIZES:
        x = np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32)
        expected = session.run(None, {"x": x})[0]
        found = g.run({"x": x})["y"].numpy()
        assert found.shape == expected.shape, n
        assert np.allclose(found, expected, atol=1e-6), n
        if found.shape == x.shape:
            z = g.latents(n, seed=n).numpy()
            expected = session.run(None, {"x": z})[0]
            assert np.allclose(g.generate(n, seed=n), expected, atol=1e-6), n


@pytest.mark.parametrize("name", AS_EVER)
def test_what_is_decided_the_same_at_any_batch(name: str) -> None:
    g, _ = loaded(AS_EVER[name], "torch")
    assert g.signature.made.apart
