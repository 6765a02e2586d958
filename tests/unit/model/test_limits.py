"""Limits: each is checked, and each error names the limit, what was found and where."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import onnx
import pytest
from google import protobuf
from onnx import TensorProto, helper

import fastgan
from fastgan.errors import ArgumentError, FastganError, LimitError, ModelFileError
from fastgan.limits import Limits, size_text
from fastgan.model.file import read
from tests.unit.models import graph_model, relu_model, value
from tests.work import lines


def limit_error(data: bytes, **limits: float) -> str:
    with pytest.raises(LimitError) as caught:
        read(data, Limits(**limits))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "7", None, True])
def test_a_limit_is_a_number_above_zero(field: str, wrong: object) -> None:
    with pytest.raises(ArgumentError, match=field):
        Limits(**{field: wrong})  # type: ignore[arg-type]


def test_sizes_are_written_for_people() -> None:
    assert size_text(900) == "900 bytes"
    assert size_text(3 << 19) == "1.5 MiB"
    assert size_text(2 << 30) == "2 GiB"


def test_file_bytes() -> None:
    assert "Limits.file_bytes" in limit_error(relu_model(), file_bytes=20)


def test_nodes() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(11)]
    data = graph_model(nodes, [value("v0", [1])], outputs=[value("v11")])
    read(data, Limits(nodes=11))
    assert "Limits.nodes" in limit_error(data, nodes=10)


def test_tensor_bytes_are_counted_over_all_weights() -> None:
    weights = {name: np.zeros(1000, np.float32) for name in ("a", "b")}
    nodes = [helper.make_node("Add", ["x", "a"], ["s"]), helper.make_node("Add", ["s", "b"], ["y"])]
    data = graph_model(nodes, [value("x", [1000])], weights=weights)
    read(data, Limits(tensor_bytes=8000))
    message = limit_error(data, tensor_bytes=7999)
    assert "initializer 'b'" in message
    assert "Limits.tensor_bytes" in message


def test_declared_activations() -> None:
    data = graph_model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1 << 20, 1 << 20])])
    message = limit_error(data)
    assert "input 'x'" in message
    assert "Limits.activation_bytes" in message


def test_activations_at_the_planned_batch() -> None:
    """An open size, which no check of the file can count: x, a and b at once are 12 KiB each."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    model = onnx.ModelProto.FromString(graph_model(nodes, [value("x", ["n", 3, 32, 32])]))
    model.graph.output[0].CopyFrom(value("y", ["n", 3, 32, 32]))
    data = model.SerializeToString()
    three = 3 * 3 * 32 * 32 * 4
    g = fastgan.load(data, device="cpu", limits=Limits(activation_bytes=2 * three))
    image = np.zeros((1, 3, 32, 32), np.float32)
    g.run({"x": image})
    with pytest.raises(LimitError) as caught:
        g.run({"x": np.repeat(image, 3, axis=0)})
    assert "Limits.activation_bytes" in str(caught.value)
    assert "[3, 3, 32, 32]" in str(caught.value)
    assert "smaller batch" in str(caught.value)
    with pytest.raises(LimitError):
        fastgan.load(data, device="cpu", limits=Limits(activation_bytes=three // 2))


def nested(depth: int) -> bytes:
    """`depth` Ifs, one in another."""
    node = helper.make_node("Identity", ["x"], ["y"])
    for _ in range(depth):
        branch = helper.make_graph([node], "branch", [], [value("y")])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return graph_model([node], [value("x"), value("c", [], TensorProto.BOOL)])


def test_nesting() -> None:
    read(nested(3))
    message = limit_error(nested(5), depth=4)
    assert "else_branch of node" in message
    assert "Limits.depth" in message


def varint(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    return bytes([number & 127 | 128]) + varint(number >> 7)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


@pytest.mark.parametrize("depth", [60, 10_000])
def test_nesting_that_no_parser_follows(depth: int) -> None:
    """Written by hand, since protobuf does not write what it does not read."""
    graph = field(1, field(2, b"y") + field(4, b"Identity"))
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(1, b"c") + field(4, b"If") + field(5, attribute))
    data = b"\x08\x08" + field(7, graph)
    if int(protobuf.__version__.split(".")[0]) < 7:  # which does not say why it reads no more
        with pytest.raises(ModelFileError, match="nested deeper"):
            read(data)
        return
    message = limit_error(data)
    assert "nested deeper" in message
    assert "Limits.depth" in message


def test_time() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(2000)]
    data = graph_model(nodes, [value("v0", [1])], outputs=[value("v2000")])
    assert "Limits.seconds" in limit_error(data, seconds=1e-6)


def shapes_of(**weights: object) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in weights.items()}


BIG = 1 << 14
# Each computes at least a gigabyte from constants.
BOMBS = {
    "ConstantOfShape": ([("ConstantOfShape", ["s"], {})], shapes_of(s=[1 << 28])),
    "Expand": ([("Expand", ["one", "s"], {})], shapes_of(one=np.ones((1, 1)), s=[BIG, BIG])),
    "Tile": ([("Tile", ["one", "s"], {})], shapes_of(one=np.ones((1, 1)), s=[BIG, BIG])),
    "Tile twice": (
        [("Tile", ["one", "s"], {}), ("Tile", ["v0", "s"], {})],
        shapes_of(one=np.ones((1, 1)), s=[128, 256]),
    ),
    "Pad": ([("Pad", ["one", "s"], {})], shapes_of(one=np.ones((1, 1)), s=[BIG] * 4)),
    "Resize": (
        [("Resize", ["one", "", "s"], {})],
        shapes_of(one=np.ones((1, 1, 2, 2)), s=np.array([1, 1, 8e3, 8e3], np.float32)),
    ),
    "Range": ([("Range", ["zero", "s", "one"], {})], shapes_of(zero=0, s=1 << 28, one=1)),
    "shape computed": (
        [
            ("Concat", ["s", "s"], {"axis": 0}),
            ("Where", ["yes", "v0", "s"], {}),
            ("ReduceProd", ["v1"], {"keepdims": 1}),
            ("ConstantOfShape", ["v2"], {}),
        ],
        shapes_of(s=[BIG], yes=[True]),
    ),
    "outer product": (
        [("ConstantOfShape", ["s"], {}), ("ConstantOfShape", ["t"], {}), ("Mul", ["v0", "v1"], {})],
        shapes_of(s=[BIG, 1], t=[1, BIG]),
    ),
    "Concat doubled": (
        [("Concat", ["s", "s"], {"axis": 0})]
        + [("Concat", [f"v{i}", f"v{i}"], {"axis": 0}) for i in range(30)],
        shapes_of(s=[1, 1]),
    ),
    "shape of an input": (
        [
            ("Shape", ["x"], {}),
            ("Concat", ["v0", "v0"], {"axis": 0}),
            ("ConstantOfShape", ["v1"], {}),
        ],
        {},
    ),
    "part of the shape of an input": (
        [
            ("Shape", ["dynamic"], {}),
            ("Gather", ["v0", "index"], {}),
            ("Concat", ["v1", "v1"], {"axis": 0}),
            ("ConstantOfShape", ["v2"], {}),
        ],
        shapes_of(index=[1]),
    ),
    "in a branch": ([("branch", ["s"], {})], shapes_of(s=[1 << 28])),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_constants_that_grow_at_load(bomb: str) -> None:
    steps, weights = BOMBS[bomb]
    nodes = []
    for index, (op, inputs, attributes) in enumerate(steps):
        if op == "branch":
            made = helper.make_node("ConstantOfShape", inputs, ["r"])
            branch = helper.make_graph([made], "branch", [], [value("r")])
            given = {"then_branch": branch, "else_branch": branch}
            nodes.append(helper.make_node("If", ["c"], [f"v{index}"], **given))
        else:
            nodes.append(helper.make_node(op, inputs, [f"v{index}"], **attributes))
    nodes.append(helper.make_node("Shape", [nodes[-1].output[0]], ["y"]))
    inputs = [
        value("x", [BIG]),
        value("dynamic", ["n", BIG]),
        value("c", [], TensorProto.BOOL),
    ]
    outputs = [value("y", None, TensorProto.INT64)]
    data = graph_model(nodes, inputs, weights=weights, outputs=outputs)
    assert len(data) < 4000
    said: list[str] = []
    assert lines(lambda: said.append(limit_error(data))) < 100_000
    (message,) = said
    assert "node 'v" in message or "node 'r" in message
    assert "Limits.constant_bytes" in message


@pytest.mark.parametrize("name", ["scales", "sizes"])
def test_more_elements_than_axes_can_be(name: str) -> None:
    """Found by fuzzing: ONNX Runtime took 1.3 GB before it saw that they do not fit."""
    kind = TensorProto.FLOAT if name == "scales" else TensorProto.INT64
    given = ["x", "", name] if name == "scales" else ["x", "", "", name]
    inputs = [value("x", [1, 1, 2, 2]), value(name, [1 << 24], kind)]
    with pytest.raises(ModelFileError, match="16777216 elements, one for each axis"):
        read(graph_model([helper.make_node("Resize", given, ["y"])], inputs))


def test_what_generators_compute_from_constants_is_allowed() -> None:
    """A weight divided by its norm, and a shape computed from a batch that is not known."""
    weight = np.ones((256, 256, 3, 3), np.float32)
    nodes = [
        helper.make_node("ReduceL2", ["w"], ["norm"], keepdims=1),
        helper.make_node("Div", ["w", "norm"], ["scaled"]),
        helper.make_node("Conv", ["x", "scaled"], ["c"], pads=[1] * 4),
        helper.make_node("Shape", ["c"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["c", "zeros"], ["y"]),
    ]
    read(graph_model(nodes, [value("x", ["n", 256, 8, 8])], weights={"w": weight}))


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize(
    ("dividend", "divisor", "found"),
    [([1, 2], [3, 0], "constant 0"), ([-(1 << 63), 1], [-1, 1], "-1")],
)
def test_integers_that_no_processor_divides(
    op: str, dividend: list[int], divisor: list[int], found: str
) -> None:
    weights = {"a": np.array(dividend), "b": np.array(divisor)}
    node = helper.make_node(op, ["a", "b"], ["y"], name="ratio")
    outputs = [value("y", [2], TensorProto.INT64)]
    with pytest.raises(ModelFileError) as caught:
        read(graph_model([node], weights=weights, outputs=outputs))
    assert "node 'ratio'" in str(caught.value)
    assert found in str(caught.value)


def with_functions(levels: int, calls: int) -> bytes:
    """Functions that call the next one `calls` times each: calls ** levels nodes."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(levels):
        names = ["x", *(f"t{i}" for i in range(calls - 1)), "y"]
        op, domain = ("Relu", "") if level == levels - 1 else (f"f{level + 1}", "own")
        nodes = [
            helper.make_node(op, [a], [b], domain=domain) for a, b in itertools.pairwise(names)
        ]
        functions.append(helper.make_function("own", f"f{level}", ["x"], ["y"], nodes, opsets))
    node = helper.make_node("f0", ["x"], ["y"], domain="own")
    graph = helper.make_graph([node], "test", [value("x", [4])], [value("y", [4])])
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    return bytes(model.SerializeToString())


def test_functions_are_inlined() -> None:
    model = read(with_functions(levels=2, calls=3))
    assert [node.op_type for node in model.model.graph] == ["Relu"] * 9
    runtime = onnx.ModelProto.FromString(model.to_runtime())
    assert len(runtime.graph.node) == 9
    assert not runtime.functions


def test_functions_that_multiply() -> None:
    message = limit_error(with_functions(levels=12, calls=10))
    assert "1000000000000 nodes once its functions are inlined" in message
    assert "Limits.nodes" in message


def test_functions_that_call_one_another_for_ever() -> None:
    assert "3000 deep" in limit_error(with_functions(levels=3000, calls=1))


def test_a_function_that_calls_itself() -> None:
    model = onnx.ModelProto.FromString(with_functions(levels=2, calls=1))
    model.functions[1].node[0].op_type, model.functions[1].node[0].domain = "f0", "own"
    with pytest.raises(FastganError, match="a call of itself"):
        read(model.SerializeToString())
