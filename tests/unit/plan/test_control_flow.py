"""Branches and loops of a graph that is made static."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fastgan.errors import LimitError, UnsupportedError
from tests.unit.plan.static_graphs import (
    BOOL,
    INT64,
    constant,
    model_of,
    ops_of,
    run,
    static,
    value,
)
from tests.work import lines

pytestmark = pytest.mark.usefixtures("one_thread")


def branch(op: str, out: str, *names: str) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node(op, list(names), [out])], op, [], [value(out)])


@pytest.mark.parametrize("size", [1, 2])
def test_if_on_a_shape_is_its_branch(size: int) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        constant("one", [1, 2]),
        helper.make_node("Equal", ["s", "one"], ["same"]),
        helper.make_node("Cast", ["same"], ["number"], to=INT64),
        helper.make_node("ReduceMin", ["number"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["condition"], to=BOOL),
        helper.make_node(
            "If",
            ["condition"],
            ["y"],
            then_branch=branch("Relu", "t", "x"),
            else_branch=branch("Neg", "t", "x"),
        ),
    ]
    model = model_of(nodes, [value("x", ["N", 2])], [value("y")])
    assert ops_of(static(model, x=(size, 2))) == ["Relu" if size == 1 else "Neg", "Identity"]
    x = np.array([[-1, 2]] * size, np.float32)
    np.testing.assert_array_equal(run(model, x)[0], np.maximum(x, 0) if size == 1 else -x)


def test_if_on_data_is_refused_by_name() -> None:
    nodes = [
        helper.make_node(
            "If",
            ["c"],
            ["y"],
            name="choice",
            then_branch=branch("Relu", "t", "x"),
            else_branch=branch("Neg", "e", "x"),
        )
    ]
    model = model_of(nodes, [value("x", [2]), value("c", [], BOOL)], [value("y")])
    with pytest.raises(UnsupportedError, match=r"choice.*condition computed from the data"):
        static(model, x=(2,), c=())


def loop_model(trips: Any, condition: Any = None, stop_at: int = 99) -> onnx.ModelProto:
    """state = state * 2 + x each turn; the states are scanned; stops after turn `stop_at`."""
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "two"], ["doubled"]),
            helper.make_node("Add", ["doubled", "x"], ["next"]),
            helper.make_node("Less", ["i", "last"], ["go_on"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [value("i", [], INT64), value("c", [], BOOL), value("state")],
        [value("go_on", [], BOOL), value("next"), value("seen")],
        [
            numpy_helper.from_array(np.array(2, np.float32), "two"),
            numpy_helper.from_array(np.array(stop_at, np.int64), "last"),
        ],
    )
    nodes = []
    if trips is not None:
        nodes.append(constant("trips", trips))
    if condition is not None:
        nodes.append(constant("condition", condition, np.bool_))
    names = ["" if trips is None else "trips", "" if condition is None else "condition", "x"]
    nodes.append(helper.make_node("Loop", names, ["y", "all"], body=body))
    return model_of(nodes, [value("x", [2])], [value("y"), value("all")])


@pytest.mark.parametrize(
    ("trips", "condition", "stop_at", "turns"),
    [(3, None, 99, 3), (3, True, 99, 3), (None, True, 3, 4), (5, True, 1, 2)],
)
def test_loop_is_unrolled(trips: Any, condition: Any, stop_at: int, turns: int) -> None:
    x = np.array([1.0, -2.0], np.float32)
    states, state = [], x
    for _ in range(turns):
        state = state * 2 + x
        states.append(state)
    y, scanned = run(loop_model(trips, condition, stop_at), x)
    np.testing.assert_array_equal(y, state)
    np.testing.assert_array_equal(scanned, np.stack(states))


def test_loop_that_never_ends_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["go_on"])],
        "body",
        [value("i", [], INT64), value("c", [], BOOL)],
        [value("go_on", [], BOOL)],
    )
    nodes = [constant("yes", True, np.bool_), helper.make_node("Loop", ["", "yes"], [], body=body)]
    nodes.append(helper.make_node("Relu", ["x"], ["y"]))
    model = model_of(nodes, [value("x", [1])], [value("y")])

    def refuse() -> None:
        with pytest.raises(LimitError, match="loops that are shorter"):
            static(model, x=(1,))

    assert lines(refuse) < 20_000_000  # 4 million, until it is given up


def test_loop_with_a_trip_count_from_data_is_refused() -> None:
    model = loop_model(3)
    del model.graph.node[0]
    model.graph.input.append(value("trips", [], INT64))
    with pytest.raises(UnsupportedError, match="trip count computed from the data"):
        static(model, x=(2,), trips=())
