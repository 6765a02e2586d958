"""The one walk that makes a graph static: folding, limits, and its speed."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from fastgan import ops
from fastgan.errors import ArgumentError, LimitError, UnsupportedError
from fastgan.plan.specialise import specialise
from tests import drawing
from tests.unit.plan.static_graphs import (
    FLOAT,
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


# Folding ---------------------------------------------------------------------------------------


def test_shape_chain_folds() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        constant("zero", 0),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        constant("axes", [0]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["row"]),
        constant("rest", [-1]),
        helper.make_node("Concat", ["row", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    made = static(model_of(nodes, [value("x", ["N", 4, 2, 2])], [value("y")]), x=(3, 4, 2, 2))
    assert ops_of(made) == ["Reshape"]
    assert list(made.graph.outputs[0].shape.numpy()) == [3, 16]


def test_weight_norm_folds_into_one_weight() -> None:
    v, g = drawing.new_numpy().standard_normal((2, 4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceL2", ["v"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Div", ["v", "norm"], ["unit"]),
        helper.make_node("Mul", ["unit", "g"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = model_of(nodes, [value("x", ["N", 4])], [value("y")], v=v, g=g[:, :1].copy())
    made = static(model, x=(2, 4))
    assert ops_of(made) == ["MatMul"]
    expected = v / np.linalg.norm(v, axis=1, keepdims=True) * g[:, :1]
    np.testing.assert_allclose(made.graph.node(0).inputs[1].const_value.numpy(), expected, 1e-6)


def test_no_ops_are_passed_over() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Dropout", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=FLOAT),
        constant("shape", [0, -1]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Concat", ["d"], ["e"], axis=0),
        helper.make_node("Relu", ["e"], ["y"]),
    ]
    made = static(model_of(nodes, [value("x", ["N", 4])], [value("y")]), x=(2, 4))
    assert ops_of(made) == ["Relu"]
    assert made.graph.node(0).inputs[0].name == "x"


def test_outputs_that_are_inputs_constants_or_shared_keep_their_names() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Identity", ["x"], ["c"]),
        constant("d", [1.0], np.float32),
    ]
    names = ["a", "b", "c", "d"]
    model = model_of(nodes, [value("x", [2])], [value(name) for name in names])
    assert [v.name for v in static(model, x=(2,)).graph.outputs] == names
    x = np.array([-1, 2], np.float32)
    a, b, c, d = run(model, x)
    np.testing.assert_array_equal(a, [0, 2])
    np.testing.assert_array_equal(b, [0, 2])
    np.testing.assert_array_equal(c, x)
    np.testing.assert_array_equal(d, [1])


def test_nodes_that_no_output_needs_go() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Exp", ["x"], ["unused"])]
    model = model_of(nodes, [value("x", [2])], [value("y")], weight=np.zeros(9, np.float32))
    made = static(model, x=(2,))
    assert ops_of(made) == ["Relu"]
    assert not made.graph.initializers


def test_weights_are_shared_and_the_model_is_not_changed() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = model_of(nodes, [value("x", ["N", 3])], [value("y")], w=np.ones((3, 2), np.float32))
    before = ir.from_proto(model)
    text = str(ir.to_proto(before))
    made = specialise(before, {"x": (5, 3)})
    assert made.graph.initializers["w"].const_value is before.graph.initializers["w"].const_value
    assert str(ir.to_proto(before)) == text


def test_random_nodes_are_never_folded_and_are_numbered() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["n"], shape=[2, 2]),
        constant("k", np.zeros((2, 2)), np.float32),
        helper.make_node("RandomUniformLike", ["k"], ["u"]),
        helper.make_node("Add", ["n", "u"], ["z"]),
        helper.make_node("Add", ["x", "z"], ["y"]),
    ]
    made = static(model_of(nodes, [value("x", [2, 2])], [value("y")]), x=(2, 2))
    assert ops_of(made) == ["RandomNormal", "RandomUniformLike", "Add", "Add"]
    assert [node.attributes["node_index"].value for node in list(made.graph)[:2]] == [0, 1]


def test_every_value_is_static() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]
    model = model_of(
        nodes, [value("x", ["N", 3, "H", "W"])], [value("y")], w=np.ones((5, 3, 3, 3), np.float32)
    )
    made = static(model, x=(2, 3, 8, 6))
    shapes = [list(node.outputs[0].shape.numpy()) for node in made.graph]
    assert shapes == [[2, 5, 8, 6], [2, 5, 8, 6], [2, 5, 1, 1]]
    assert all(node.outputs[0].dtype == ir.DataType.FLOAT for node in made.graph)


# Refusals --------------------------------------------------------------------------------------


def test_shape_from_data_is_refused_by_name() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["s"], to=INT64),
        helper.make_node("Reshape", ["x", "s"], ["y"], name="view"),
    ]
    with pytest.raises(UnsupportedError, match=r"view.*input 1 of Reshape computed from the data"):
        static(model_of(nodes, [value("x", [2])], [value("y")]), x=(2,))


def test_non_zero_of_data_is_refused_but_of_a_constant_folds() -> None:
    nodes = [
        constant("mask", [[0, 1], [1, 1]], np.float32),
        helper.make_node("NonZero", ["mask"], ["places"]),
        helper.make_node("Cast", ["places"], ["p"], to=FLOAT),
        helper.make_node("Add", ["x", "p"], ["y"]),
    ]
    model = model_of(nodes, [value("x", [2, 3])], [value("y")])
    assert ops_of(static(model, x=(2, 3))) == ["Add"]
    nodes[1] = helper.make_node("NonZero", ["x"], ["places"], name="where")
    with pytest.raises(UnsupportedError, match=r"where.*NonZero of data"):
        static(model_of(nodes, [value("x", [2, 2])], [value("y")]), x=(2, 2))


def test_unknown_op_is_refused_by_name() -> None:
    node = helper.make_node("NoSuchOp", ["x"], ["y"], name="odd")
    with pytest.raises(UnsupportedError, match=r"odd.*op NoSuchOp of opset 17"):
        static(model_of([node], [value("x", [1])], [value("y")]), x=(1,))


def test_missing_shape_is_an_argument_error() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y")])
    with pytest.raises(ArgumentError, match="no shape of input 'x'"):
        static(model)


HUGE = 1 << 40


@pytest.mark.parametrize(
    "nodes",
    [
        [constant("s", [HUGE]), helper.make_node("ConstantOfShape", ["s"], ["k"])],
        [constant("s", [1 << 62, 4]), helper.make_node("ConstantOfShape", ["s"], ["k"])],
        [
            constant("a", [1.0], np.float32),
            constant("s", [HUGE]),
            helper.make_node("Expand", ["a", "s"], ["k"]),
        ],
        [
            constant("a", [1.0], np.float32),
            constant("s", [HUGE]),
            helper.make_node("Tile", ["a", "s"], ["k"]),
        ],
        [
            constant("a", 0.0, np.float32),
            constant("b", 1e12, np.float32),
            constant("c", 1.0, np.float32),
            helper.make_node("Range", ["a", "b", "c"], ["k"]),
        ],
        [
            constant("a", 0),
            constant("b", 10),
            constant("c", 0),
            helper.make_node("Range", ["a", "b", "c"], ["k"]),
        ],
        [
            constant("a", [1.0], np.float32),
            constant("p", [0, HUGE]),
            helper.make_node("Pad", ["a", "p"], ["k"], mode="edge"),
        ],
        [
            constant("a", [[[[1.0]]]], np.float32),
            constant("f", [1, 1, 2.0**20, 2.0**20], np.float32),
            helper.make_node("Resize", ["a", "", "f"], ["k"]),
        ],
        [
            constant("a", [0]),
            constant("d", HUGE),
            constant("v", [0.0, 1.0], np.float32),
            helper.make_node("OneHot", ["a", "d", "v"], ["k"]),
        ],
        [
            constant("a", np.ones(2048), np.float32),
            helper.make_node("Einsum", ["a"] * 4, ["k"], equation="i,j,k,l->ijkl"),
        ],
    ],
    ids=lambda nodes: nodes[-1].op_type,
)
def test_hostile_constants_are_refused_without_being_made(nodes: Any) -> None:
    nodes = [*nodes, helper.make_node("Add", ["x", "k"], ["y"])]
    model = model_of(nodes, [value("x", [1])], [value("y")])

    def refuse() -> None:
        with pytest.raises((LimitError, UnsupportedError)):
            static(model, x=(1,))

    refuse()  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert lines(refuse) < 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB


def test_a_large_constant_stays_a_node() -> None:
    nodes = [
        constant("s", [32 << 20]),
        helper.make_node("ConstantOfShape", ["s"], ["k"]),
        helper.make_node("Add", ["x", "k"], ["y"]),
    ]
    made = static(model_of(nodes, [value("x", [1])], [value("y")]), x=(1,))
    assert ops_of(made) == ["ConstantOfShape", "Add"]


def test_attributes_of_the_wrong_kind_do_not_crash() -> None:
    rng = np.random.default_rng(0)
    numbers = [0, -1, 1 << 40, -(1 << 62), 3]
    for op in ops.all_ops():
        if op.domain or op.random:
            continue
        for _ in range(4):
            attributes = {
                name: [int(rng.choice(numbers)), [int(n) for n in rng.choice(numbers, 2)], 0.5][
                    rng.integers(3)
                ]
                for name in op.attributes
                if rng.random() < 0.5
            }
            node = helper.make_node(op.name, ["x", "x"][: rng.integers(1, 3)], ["y"], **attributes)
            x = np.arange(36, dtype=np.float32).reshape(1, 4, 3, 3)
            known = model_of([node], [], [value("y")], opset=op.since, x=x)
            data = model_of([node], [value("x", [1, 4, 3, 3])], [value("y")], opset=op.since)
            for model, shapes in ((known, {}), (data, {"x": (1, 4, 3, 3)})):
                try:
                    static(model, **shapes)
                except (UnsupportedError, LimitError):
                    continue


# Speed and imports -----------------------------------------------------------------------------


def elementwise_chain(count: int) -> onnx.ModelProto:
    nodes, last = [], "x"
    for i in range(count):
        op = ("Relu", "Add", "Mul", "Tanh", "Sub", "Sigmoid", "Sqrt", "LeakyRelu")[i % 8]
        inputs = [last, "c"] if op in ("Add", "Mul", "Sub") else [last]
        nodes.append(helper.make_node(op, inputs, [f"v{i}"]))
        last = f"v{i}"
    half = np.array([0.5], np.float32)
    return model_of(nodes, [value("x", ["N", 8, 16, 16])], [value(last)], c=half)


def shape_chains(count: int) -> onnx.ModelProto:
    nodes: list[onnx.NodeProto] = [constant("zero", 0), constant("axes", [0]), constant("two", [2])]
    last = "x"
    while len(nodes) < count:
        i = len(nodes)
        nodes += [
            helper.make_node("Shape", [last], [f"s{i}"]),
            helper.make_node("Gather", [f"s{i}", "zero"], [f"g{i}"], axis=0),
            helper.make_node("Unsqueeze", [f"g{i}", "axes"], [f"u{i}"]),
            constant(f"c{i}", [8]),
            constant(f"r{i}", [-1]),
            helper.make_node("Mul", [f"c{i}", "two"], [f"m{i}"]),
            helper.make_node("Div", [f"m{i}", "two"], [f"d{i}"]),
            helper.make_node("Concat", [f"u{i}", f"d{i}", f"r{i}"], [f"t{i}"], axis=0),
            helper.make_node("Cast", [f"t{i}"], [f"i{i}"], to=INT64),
            helper.make_node("Reshape", [last, f"i{i}"], [f"y{i}"]),
        ]
        last = f"y{i}"
    return model_of(nodes, [value("x", ["N", 8, 16, 16])], [value(last)])


@pytest.mark.parametrize("make", [elementwise_chain, shape_chains])
def test_linear_work(make: Any) -> None:
    few, many = (ir.from_proto(make(count)) for count in (1_000, 4_000))
    shapes = {"x": (4, 8, 16, 16)}
    assert lines(lambda: specialise(many, shapes)) < 4.2 * lines(lambda: specialise(few, shapes))


COMMON = """
import sys
import numpy as np
import onnx_ir as ir
from onnx import helper, numpy_helper, TensorProto
from fastgan.plan.specialise import specialise

def array(*shape):
    return np.ones(shape, np.float32)

weights = dict(
    w=array(8, 4, 3, 3), b=array(8), t=array(8, 4, 4, 4), s=array(4), one=array(1),
    m=array(64, 32), k=np.array([1, 1, 2, 2], np.float32), p=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    to=np.array([0, -1]), lo=np.array([0]), hi=np.array([2]), ax=np.array([1]), g=np.array([0]),
    rep=np.array([1, 2, 1, 1]), like=np.array([2, 4, 16, 16]), sp=np.array([2, 2]),
    un=np.array([0]),
)
N = helper.make_node
nodes = [
    N("Conv", ["x", "w", "b"], ["v0"], pads=[1, 1, 1, 1]), N("Relu", ["v0"], ["v1"]),
    N("ConvTranspose", ["v1", "t"], ["v2"], strides=[2, 2], pads=[1, 1, 1, 1]),
    N("BatchNormalization", ["v2", "s", "s", "s", "s"], ["v3"]),
    N("InstanceNormalization", ["v3", "s", "s"], ["v4"]), N("LeakyRelu", ["v4"], ["v5"]),
    N("Tanh", ["v5"], ["v6"]), N("Sigmoid", ["v6"], ["v7"]), N("Add", ["v7", "one"], ["v8"]),
    N("Sub", ["v8", "one"], ["v9"]), N("Mul", ["v9", "one"], ["v10"]),
    N("Div", ["v10", "one"], ["v11"]), N("Sqrt", ["v11"], ["v12"]),
    N("Pow", ["v12", "one"], ["v13"]),
    N("ReduceMean", ["v13"], ["v14"], axes=[1], keepdims=1), N("Sub", ["v13", "v14"], ["v15"]),
    N("ReduceSum", ["v15", "ax"], ["v16"]), N("Concat", ["v15", "v16"], ["v17"], axis=1),
    N("Split", ["v15", "sp"], ["v18", "v19"], axis=1),
    N("Pad", ["v15", "p"], ["v20"], mode="reflect"),
    N("Slice", ["v20", "lo", "hi", "ax"], ["v21"]), N("Resize", ["v15", "", "k"], ["v22"]),
    N("Transpose", ["v15"], ["v23"], perm=[0, 2, 3, 1]), N("Softmax", ["v23"], ["v24"]),
    N("MatMul", ["v23", "v23t"], ["v25"]), N("Tile", ["v15", "rep"], ["v26"]),
    N("Gather", ["v15", "g"], ["v27"], axis=1), N("Expand", ["v14", "like"], ["v28"]),
    N("Unsqueeze", ["v15", "un"], ["v29"]), N("Squeeze", ["v29", "un"], ["v30"]),
    N("DepthToSpace", ["v15"], ["v31"], blocksize=2), N("Clip", ["v15", "zero", "uno"], ["v32"]),
    N("Cast", ["v15"], ["v33"], to=TensorProto.FLOAT16), N("ReduceL2", ["v15"], ["v34"]),
    N("MaxPool", ["v15"], ["v35"], kernel_shape=[2, 2]), N("PRelu", ["v15", "one"], ["v36"]),
    N("GlobalAveragePool", ["v15"], ["v37"]), N("RandomNormalLike", ["v15"], ["v38"]),
    N("AveragePool", ["v15"], ["v39"], kernel_shape=[2, 2]), N("Exp", ["v15"], ["v40"]),
    N("LayerNormalization", ["v23", "s", "s"], ["v41"]),
    N("Where", ["mask", "v15", "v15"], ["v42"]),
    N("Reshape", ["v22", "to"], ["v43"]), N("Flatten", ["v37"], ["v44"]),
    N("Gemm", ["v44", "ge"], ["v45"]), N("Erf", ["v15"], ["v46"]), N("Sin", ["v15"], ["v47"]),
]
weights.update(
    v23t=array(4, 5), zero=np.array(0, np.float32), uno=np.array(1, np.float32), ge=array(4, 3),
    mask=np.array([True]),
)
outputs = [o for n in nodes for o in n.output]
graph = helper.make_graph(
    nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 4, 8, 8])],
    [helper.make_tensor_value_info(o, 1, None) for o in outputs],
    [numpy_helper.from_array(a, n) for n, a in weights.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
made = specialise(ir.from_proto(model), {"x": (2, 4, 8, 8)})
assert len(made.graph) >= len(nodes) - 2, len(made.graph)
heavy = {"torch._dynamo", "torch._inductor", "onnxscript", "onnxruntime", "triton"}
print(*sorted(heavy & set(sys.modules)))
"""


def test_common_ops_import_no_compiler() -> None:
    result = subprocess.run([sys.executable, "-c", COMMON], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
