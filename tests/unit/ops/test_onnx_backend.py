"""ONNX's own test cases through `fastgan.onnx_backend`: none may fail, refusals say why."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from fastgan import onnx_backend, ops
from fastgan.errors import ArgumentError, UnsupportedError
from fastgan.measure.conformance import (
    OTHERWISE,
    PLAIN_TYPES,
    Case,
    Outcome,
    node_cases,
    report,
    run_fastgan,
)
from tests.unit.ops.onnx_networks import light_cases, stored_cases

#: Node cases in plain types that covered ops refuse, by what the refusal says.
RESTRICTIONS = (
    "Col2Im of an image that is not two-dimensional",
    "Dropout in training mode",
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def outcomes() -> tuple[Outcome, ...]:
    return tuple(run_fastgan(case) for case in node_cases())


@pytest.mark.slow
def test_no_node_case_fails(outcomes) -> None:
    failed = {o.case.name: o.reason for o in outcomes if o.result == "failed"}
    assert failed.keys() <= set(OTHERWISE), failed
    assert sum(o.result == "passed" for o in outcomes) > 1200


@pytest.mark.slow
def test_covered_ops_pass_all_their_cases_in_plain_types(outcomes) -> None:
    covered = {op.name for op in ops.all_ops() if op.domain == ""} | {"If", "Loop"}
    refused = [
        f"{o.case.name}: {o.reason}"
        for o in outcomes
        if o.case.op in covered
        and o.case.types <= PLAIN_TYPES
        and o.result != "passed"
        and o.case.name not in OTHERWISE
        and not any(text in o.reason for text in RESTRICTIONS)
    ]
    assert not refused, "\n".join(refused)


@pytest.mark.slow
def test_refusals_of_node_cases(outcomes) -> None:
    reasons = collections.Counter(o.reason for o in outcomes if o.result == "refused")
    assert all(reasons)
    if reasons:
        lines = "\n".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        pytest.skip(f"{sum(reasons.values())} node cases are refused:\n{lines}")


@pytest.mark.slow
def test_report_lists_every_op(outcomes) -> None:
    text = report(outcomes, [Outcome(o.case, "passed") for o in outcomes])
    assert all(f"| {op.name} |" in text for op in ops.all_ops() if op.domain == "")


@pytest.mark.parametrize(
    "case",
    [*stored_cases(), *(pytest.param(case, marks=pytest.mark.slow) for case in light_cases())],
    ids=lambda case: case.name,
)
def test_stored_models(case: Case) -> None:
    outcome = run_fastgan(case)
    if outcome.result == "refused":
        pytest.skip(outcome.reason)
    assert outcome.result == "passed", outcome.reason


# The interface itself -------------------------------------------------------------------------


def reshape_model() -> onnx.ModelProto:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [None]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_input_that_decides_a_shape_is_bound_per_value() -> None:
    representation = onnx_backend.prepare(reshape_model())
    assert representation.bound == {"shape"}
    x = np.arange(6, dtype=np.float32)
    for shape in ([2, 3], [3, 2], [2, 3]):
        (y,) = representation.run([x, np.array(shape, np.int64)])
        np.testing.assert_array_equal(y, x.reshape(shape))
    assert len(representation.plans) == 2


def test_outputs_by_name_and_inputs_by_name() -> None:
    representation = onnx_backend.prepare(reshape_model())
    x = np.arange(4, dtype=np.float32)
    result = representation.run({"shape": np.array([2, 2], np.int64), "x": x})
    np.testing.assert_array_equal(result["y"], x.reshape(2, 2))


def test_wrong_number_of_inputs() -> None:
    with pytest.raises(ArgumentError, match="inputs"):
        onnx_backend.prepare(reshape_model()).run([np.zeros(3, np.float32)])


def test_strings_are_refused() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    with pytest.raises(UnsupportedError, match="strings"):
        onnx_backend.run_node(node, [np.array(["a"], dtype=object)])


def test_run_node_of_an_older_opset() -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], axes=[1], keepdims=0)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    (y,) = onnx_backend.run_node(node, [x], opset_version=11)
    np.testing.assert_allclose(y, x.sum(1), rtol=1e-6)


def test_run_model_keeps_the_element_types_of_the_model() -> None:
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    for dtype in (np.float16, np.float32, np.float64, np.int64):
        x = np.array([1.5, -3.0]).astype(dtype)
        (y,) = onnx_backend.run_node(node, [x])
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, x * x)


def test_float64_is_not_rounded_to_float32() -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    x = np.array([1 + 2.0**-40])
    (y,) = onnx_backend.run_node(node, [x])
    assert y[0] == 2 + 2.0**-39


def test_devices() -> None:
    assert onnx_backend.supports_device("CPU")
    assert onnx_backend.supports_device("CUDA") == torch.cuda.is_available()
    assert not onnx_backend.supports_device("TPU")
    with pytest.raises(ArgumentError, match="device"):
        onnx_backend.prepare(reshape_model(), "TPU")
