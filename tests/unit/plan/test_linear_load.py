"""Loading costs work in proportion to the graph: from the file to the first plan that can run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

import fastgan
from tests.work import lines

Nodes = list[NodeProto]
node = helper.make_node

#: What twice the nodes may cost; and the lines of Python that a node may: half as many again as
#: the dearest of these graphs takes.
RATIO, LINES_PER_NODE = 2.1, 6500
NODES = 1200


def elementwise(n: int) -> Nodes:
    kinds = ("Relu", "Sigmoid", "Add", "Mul", "LeakyRelu", "Tanh")
    names = ["x", *[f"v{i}" for i in range(n - 1)], "y"]
    return [
        node(kind, [names[i], "row"] if kind in ("Add", "Mul") else [names[i]], [names[i + 1]])
        for i, kind in zip(range(n), kinds * n, strict=False)
    ]


def residual_blocks(n: int) -> Nodes:
    nodes, x = [], "x"
    for i in range(n // 5):
        nodes += [
            node("Conv", [x, "weight", "ones"], [f"c{i}"], pads=[1] * 4),
            node("BatchNormalization", [f"c{i}", *["ones"] * 4], [f"b{i}"]),
            node("Relu", [f"b{i}"], [f"r{i}"]),
            node("Sigmoid", [f"r{i}"], [f"s{i}"]),
            node("Add", [f"s{i}", x], [f"a{i}"]),
        ]
        x = f"a{i}"
    return [*nodes, node("Identity", [x], ["y"])]


def fan_in(n: int) -> Nodes:
    parts = [f"v{i}" for i in range(n - 1)]
    return [*[node("Relu", ["x"], [part]) for part in parts], node("Concat", parts, ["y"], axis=1)]


def shape_chains(n: int) -> Nodes:
    nodes, x = [], "x"
    for i in range(n // 6):
        nodes += [
            node("Shape", [x], [f"s{i}"]),
            node("Gather", [f"s{i}", "zero"], [f"g{i}"]),
            node("Unsqueeze", [f"g{i}", "axis"], [f"u{i}"]),
            node("Concat", [f"u{i}", "rest"], [f"k{i}"], axis=0),
            node("Reshape", [x, f"k{i}"], [f"q{i}"]),
            node("Relu", [f"q{i}"], [f"r{i}"]),
        ]
        x = f"r{i}"
    return [*nodes, node("Identity", [x], ["y"])]


SHAPES: dict[Callable[[int], Nodes], tuple[int | str, ...]] = {
    elementwise: ("n", 8),
    residual_blocks: ("n", 8, 4, 4),
    fan_in: ("n", 8),
    shape_chains: ("n", 8),
}
CONSTANTS = {
    "row": np.full((1, 8), 0.5, np.float32),
    "ones": np.ones(8, np.float32),
    "weight": np.full((8, 8, 3, 3), 0.01, np.float32),
    "zero": np.array(0, np.int64),
    "axis": np.array([0], np.int64),
    "rest": np.array([8], np.int64),
}


def model(make: Callable[[int], Nodes], n: int) -> bytes:
    graph = helper.make_graph(
        make(n),
        make.__name__,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPES[make])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def work(data: bytes) -> int:
    """From bytes to the first executable."""
    return lines(lambda: fastgan.load(data, device="cpu", backend="torch").plan(1))


@pytest.mark.parametrize("make", SHAPES, ids=lambda make: make.__name__)
def test_load_is_linear(make: Callable[[int], Nodes]) -> None:
    work(model(make, 60))  # Imports, and what is made once.
    half, whole = (work(model(make, n)) for n in (NODES // 2, NODES))
    assert whole <= RATIO * half
    assert whole <= LINES_PER_NODE * NODES
