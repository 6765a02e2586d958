"""Recurrent layers in the native graph, held to PyTorch's own ops and to torch.nn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from onnx import TensorProto, helper

import fastgan
from fastgan.engine.native import graph
from fastgan.plan import Step
from tests import drawing
from tests.unit.engine.native_networks import (
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

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def add_layer(net: Network, op: str, x: str, hidden: int, draw: random.Random) -> tuple[str, ...]:
    """A layer with some of what it may have; the names of all its outputs."""
    direction = draw.choice(["forward", "reverse", "bidirectional"])
    layout, both = draw.randint(0, 1), 2 if direction == "bidirectional" else 1
    time, images, size = net.shapes[x]
    if layout:
        time, images = images, time
    rows = GATES[op] * hidden
    names = [x, net.weight(both, rows, size, scale=0.3), net.weight(both, rows, hidden, scale=0.3)]
    names.append(net.weight(both, 2 * rows) if draw.random() < 0.7 else "")
    names.append("")
    state = (images, both, hidden) if layout else (both, images, hidden)
    for _ in range(2 if op == "LSTM" else 1):
        given = draw.choice(["none", "weight", "made"])
        names.append("" if given == "none" else net.weight(*state))
        if given == "made":
            names[-1] = net.add("Add", [names[-1], net.weight(1)], state)
    if op == "LSTM" and draw.random() < 0.5:
        names.append(net.weight(both, 3 * hidden))
    while not names[-1]:
        names.pop()
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction, "layout": layout}
    if op == "GRU":
        attributes["linear_before_reset"] = 1
    made = tuple(f"{op}{len(net.steps)}.{i}" for i in range(3 if op == "LSTM" else 2))
    first = (images, time, both, hidden) if layout else (time, both, images, hidden)
    net.shapes |= dict(zip(made, (first, state, state), strict=False))
    net.steps.append(Step(op, tuple(names), made, attributes, origin=(made[0],)))
    return made


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("hidden", [1, 5, 16, 37, 160])
def test_recurrent_layers(op: str, hidden: int) -> None:
    draw = random.Random(f"{op} {hidden} {drawing.new_seed()}")
    for images, time in ((1, 9), (3, 4), (2, 1)):
        net = Network(x=(time, images, 7))
        check(net.plan(*add_layer(net, op, "x", hidden, draw)), 2e-5)


@pytest.mark.parametrize("op", GATES)
def test_samples_do_not_depend_on_the_batch(op: str) -> None:
    net = Network(x=(6, 5, 4))
    rows = GATES[op] * 40
    names = ["x", net.weight(1, rows, 4), net.weight(1, rows, 40), net.weight(1, 2 * rows)]
    attributes = {"hidden_size": 40, "linear_before_reset": 1} if op == "GRU" else {}
    made = net.add(op, names, (6, 1, 5, 40), **attributes)
    net.steps[-1] = Step(op, tuple(names), (made,), attributes, origin=(made,))
    x = torch.randn(6, 5, 4)
    together = native_of(net.plan(made))({"x": x})[made]
    for i in range(5):
        net.shapes |= {"x": (6, 1, 4), made: (6, 1, 1, 40)}
        alone = native_of(net.plan(made))({"x": x[:, i : i + 1].contiguous()})[made]
        assert torch.equal(alone[:, :, 0], together[:, :, i])


@pytest.mark.parametrize(
    ("change", "lengths", "why"),
    [
        ({"linear_before_reset": 0}, None, "a reset before the product"),
        ({}, [3, 2], "sequences of lengths of their own"),
    ],
)
def test_what_is_left_to_the_library(
    change: dict[str, Any], lengths: Sequence[int] | None, why: str
) -> None:
    net = Network(x=(3, 2, 4))
    names = ["x", net.weight(1, 18, 4), net.weight(1, 18, 6), net.weight(1, 36)]
    if lengths is not None:
        names.append(net.host(lengths, torch.int32))
    attributes = {"hidden_size": 6, "linear_before_reset": 1, **change}
    y = net.add("GRU", names, (3, 1, 2, 6), **attributes)
    for _ in range(3):
        y = net.add("Softmax", [y], net.shapes[y], axis=-1)
    made = graph.executable(net.plan(y), OPSET, bind, other)
    assert isinstance(made, graph.MixedExecutable)
    assert made.plan.steps[0].note == f"no native code for {why}"


@pytest.mark.parametrize("kept", [("", "h", ""), ("y", "", "c"), ("", "", "c")])
def test_outputs_that_nobody_wants(kept: tuple[str, str, str]) -> None:
    """By a file, since a plan is made of one: absent outputs have no name there."""
    module = torch.nn.LSTM(3, 5)
    order = [0, 3, 1, 2]  # ONNX has input, output, forget, new
    parts = {
        name: torch.cat([value.detach().chunk(4)[i] for i in order])[None]
        for name, value in module.named_parameters()
    }
    weights = {
        "W": parts["weight_ih_l0"],
        "R": parts["weight_hh_l0"],
        "B": torch.cat([parts["bias_ih_l0"], parts["bias_hh_l0"]], 1),
    }
    outputs = [name for name in kept if name]
    node = helper.make_node("LSTM", ["x", *weights], kept, hidden_size=5)
    spread = [helper.make_node("Tanh", [name], [f"{name}.out"]) for name in outputs]
    model = helper.make_model(
        helper.make_graph(
            [node, *spread],
            "lstm",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2, 3])],
            [
                helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None)
                for name in outputs
            ],
            [
                helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.flatten().tolist())
                for name, value in weights.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    g = fastgan.load(model.SerializeToString(), backend="torch", strict=True, device="cpu")
    assert not any(step.note for step in g.plan(2).steps)
    x = torch.randn(4, 2, 3)
    with torch.no_grad():
        y, (h, c) = module(x)
    expected = {"y": y[:, None], "h": h, "c": c}
    found = g.run({"x": x})
    for name in outputs:
        torch.testing.assert_close(found[f"{name}.out"], expected[name].tanh())
