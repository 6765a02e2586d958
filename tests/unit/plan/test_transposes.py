"""Networks of channels-last frameworks: a Transpose is in the way of no elementwise operator."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastgan
from fastgan.ops.registry import all_ops
from tests.planned import planned

#: Curves that leave floats floats, by the newest of their versions.
CURVES = {
    op.name: op.since
    for op in all_ops()
    if op.elementwise and op.arity == 1 and op.fresh and op.name not in ("Not", "BitwiseNot")
}
OPSETS = {name: max(since, 18) for name, since in CURVES.items()}


def network(behind: list[tuple[str, dict[str, object], bool]], opset: int = 18) -> bytes:
    """Three convolutions between Transposes, what a row names behind each of the first two.

    behind: (operator, attributes, whether it reads the convolution too), in order.
    """
    draw = np.random.default_rng(0)
    nodes, weights, at = [], [], "x"
    for layer, (rows, columns) in enumerate(((8, 3), (8, 8), (3, 8))):
        weight = draw.standard_normal((rows, columns, 3, 3)).astype(np.float32) * 0.2
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes += [
            helper.make_node("Transpose", [at], [f"a{layer}"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", [f"a{layer}", f"w{layer}"], [f"b{layer}"], pads=[1] * 4),
            helper.make_node("Transpose", [f"b{layer}"], [f"c{layer}"], perm=[0, 2, 3, 1]),
        ]
        at = convolved = f"c{layer}"
        for index, (operator, given, twice) in enumerate(behind if layer < 2 else ()):
            made = f"d{layer}.{index}"
            reads = [convolved, at] if twice else [at]
            nodes.append(helper.make_node(operator, reads, [made], **given))
            at = made
    nodes.append(helper.make_node("Tanh", [at], ["y"]))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6, 5, 3]) for name in "xy"
    ]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], weights)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()


def steps(model: bytes) -> list[str]:
    plan = planned(fastgan.load(model, device="cpu", backend="torch"))
    return [step.op for step in plan.steps]


@pytest.mark.parametrize("operator", CURVES)
def test_no_transpose_stays_behind_a_curve(operator: str) -> None:
    given = {"bias": 0.5} if operator == "Shrink" else {}
    assert steps(network([(operator, given, False)], OPSETS[operator])) == ["fastgan.Conv"] * 3


@pytest.mark.parametrize("operator", ["Sin", "Selu", "HardSigmoid", "Celu", "Mish", "Shrink"])
def test_the_numbers_are_those_of_the_model(operator: str) -> None:
    given = {"Celu": {"alpha": 0.3}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4}}.get(operator, {})
    model = network([(operator, given, False)])
    x = np.random.default_rng(1).standard_normal((2, 6, 5, 3)).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model)).run(None, {"x": x})
    generator = fastgan.load(model, device="cpu", backend="torch")
    assert np.allclose(generator.run({"x": x})["y"], expected[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "behind",
    [
        [("Sigmoid", {}, False), ("Mul", {}, True)],
        [("Softplus", {}, False), ("Tanh", {}, False), ("Mul", {}, True)],
    ],
    ids=["silu", "mish"],
)
def test_activations_spelled_out(behind: list[tuple[str, dict[str, object], bool]]) -> None:
    assert steps(network(behind)) == ["fastgan.Conv"] * 3


def test_a_cast_keeps_its_own_type() -> None:
    behind = [("Cast", {"to": TensorProto.FLOAT16}, False), ("Relu", {}, False)]
    behind.append(("Cast", {"to": TensorProto.FLOAT}, False))
    assert "Transpose" not in steps(network(behind))
