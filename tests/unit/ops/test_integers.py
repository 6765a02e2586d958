"""Products and norms of integers are computed in integers; curves of odd numbers are right."""

import json

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh
from typer.testing import CliRunner

import fastgan
from fastgan.cli import app

TYPES = {T.INT32: np.int32, T.INT64: np.int64}
#: Past what float32 and float64 hold.
LARGE = {T.INT32: 70_001, T.INT64: 3_037_000_499}


def loaded(nodes, kind, inputs, output, opset=17, **constants):
    graph = h.make_graph(
        nodes,
        "integers",
        [h.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [h.make_tensor_value_info("y", kind, output)],
        [nh.from_array(value, name) for name, value in constants.items()],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=10)
    data = model.SerializeToString()
    return fastgan.load(data, device="cpu", backend="torch", strict=True), data


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [[2, 3], [2, 5, 3], [3]])
def test_matmul(kind, shape):
    generator = np.random.default_rng(0)
    w = generator.integers(-LARGE[kind], LARGE[kind], (3, 4)).astype(TYPES[kind])
    x = generator.integers(-9, 9, shape).astype(TYPES[kind])
    g, data = loaded(
        [h.make_node("MatMul", ["x", "w"], ["y"])], kind, {"x": shape}, [*shape[:-1], 4], w=w
    )
    found = g.run({"x": x})["y"].numpy()
    assert found.dtype == TYPES[kind]
    np.testing.assert_array_equal(found, x @ w)
    np.testing.assert_array_equal(found, onnxruntime.InferenceSession(data).run(None, {"x": x})[0])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("given", [{}, {"transB": 1}, {"alpha": 2.0, "beta": 3.0}])
def test_gemm(kind, given):
    generator = np.random.default_rng(1)
    w, c = (generator.integers(-99, 99, size).astype(TYPES[kind]) for size in ((4, 4), (4,)))
    x = generator.integers(-9, 9, (2, 4)).astype(TYPES[kind])
    g, _ = loaded(
        [h.make_node("Gemm", ["x", "w", "c"], ["y"], **given)],
        kind,
        {"x": [2, 4]},
        [2, 4],
        w=w,
        c=c,
    )
    product = x @ (w.T if given.get("transB") else w)
    expected = product * int(given.get("alpha", 1)) + c * int(given.get("beta", 1))
    np.testing.assert_array_equal(g.run({"x": x})["y"].numpy(), expected)


@pytest.mark.parametrize("kind", TYPES)
def test_arithmetic_is_onnx_runtimes(kind):
    """A norm by hand of integers is none: each step rounds towards zero."""
    nodes = [
        h.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        h.make_node("Sub", ["x", "mean"], ["centred"]),
        h.make_node("Mul", ["centred", "centred"], ["squares"]),
        h.make_node("ReduceMean", ["squares"], ["variance"], axes=[1], keepdims=1),
        h.make_node("Add", ["variance", "one"], ["spread"]),
        h.make_node("Div", ["squares", "spread"], ["ratio"]),
        h.make_node("Mod", ["x", "three"], ["rest"]),
        h.make_node("Add", ["ratio", "rest"], ["y"]),
    ]
    one, three = (np.array(n, TYPES[kind]) for n in (1, 3))
    g, data = loaded(nodes, kind, {"x": [3, 7]}, [3, 7], one=one, three=three)
    x = np.random.default_rng(2).integers(-99, 99, (3, 7)).astype(TYPES[kind])
    expected = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    np.testing.assert_array_equal(g.run({"x": x})["y"].numpy(), expected)


@pytest.mark.parametrize(
    ("operator", "given"),
    [
        *((op, {"alpha": np.nan}) for op in ("Celu", "Elu", "LeakyRelu", "ThresholdedRelu")),
        ("Selu", {"gamma": np.inf}),
        ("HardSigmoid", {"beta": -np.inf}),
        ("Shrink", {"lambd": np.nan}),
        ("LRN", {"size": 0}),
        ("LRN", {"size": 3, "bias": np.nan}),
    ],
)
def test_curves_of_no_number_are_refused(operator, given):
    shape = ["n", 3, 2, 2]
    with pytest.raises(fastgan.errors.ModelFileError, match=next(reversed(given))):
        loaded([h.make_node(operator, ["x"], ["y"], **given)], T.FLOAT, {"x": shape}, shape)


def test_gelu_of_an_unknown_kind_is_refused():
    node = h.make_node("Gelu", ["x"], ["y"], approximate="nearly")
    with pytest.raises(fastgan.errors.ModelFileError, match="approximate"):
        loaded([node], T.FLOAT, {"x": ["n", 3]}, ["n", 3], opset=20)


def test_inspect_says_that_float64_is_not_kept(tmp_path):
    for kind, said in ((T.DOUBLE, True), (T.FLOAT, False)):
        _, data = loaded([h.make_node("Exp", ["x"], ["y"])], kind, {"x": ["n", 3]}, ["n", 3])
        file = tmp_path / f"{kind}.onnx"
        file.write_bytes(data)
        options = ["inspect", str(file), "--device", "cpu", "--backend", "torch"]
        shown = CliRunner().invoke(app(), options)
        assert shown.exit_code == 0
        assert ("float64 is computed in fp32; ort keeps it" in shown.output) == said
        facts = json.loads(CliRunner().invoke(app(), [*options, "--json"]).stdout)
        assert ("note" in facts) == said
