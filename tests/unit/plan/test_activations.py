"""The table of activations is what the kernels, the native code and the registry have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from fastgan.engine.library import operators
from fastgan.engine.library.executor import PlanExecutable
from fastgan.kernels import epilogue, pointwise
from fastgan.ops.registry import all_ops
from fastgan.plan import Buffer, Epilogue, Plan, Step
from fastgan.plan.activations import TABLE, of
from fastgan.plan.merge import merge

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


def test_kernels_have_what_the_table_says() -> None:
    assert {row.name for row in TABLE.values() if row.kernel} == set(epilogue.ACTIVATIONS)
    known = {*pointwise.UNARY, *pointwise.BINARY}
    assert {row.name for row in TABLE.values() if row.instruction} == {
        name for name in known if name in TABLE
    }


def test_native_code_has_the_names_of_the_table() -> None:
    curves = re.findall(r'"(\w+)", Curve::', (ROOT / "csrc/runtime/bindings.cpp").read_text())
    assert set(curves) <= {row.name for row in TABLE.values()}
    assert {row.name for row in TABLE.values() if row.kernel} <= set(curves)


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row.onnx])
def test_a_row_computes_what_its_operator_does(name: str) -> None:
    row = TABLE[name]
    op = [op for op in all_ops() if op.name == row.onnx and not op.domain][-1]
    x = torch.linspace(-3, 3, 101) if name not in ("not", "bitwise_not") else torch.tensor([True])
    found = of(row.onnx, row.given)
    assert found is not None
    assert found[0] is row
    expected = op.function(x, **row.given)
    assert torch.allclose(row.torch(x, *found[1]), expected, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("op", [o for o in all_ops() if o.fresh and o.elementwise and o.arity == 1])
def test_fresh_operators_write_memory_of_their_own(op: object) -> None:
    for x in (torch.ones(4), torch.ones(4, dtype=torch.int64), torch.ones(4, dtype=torch.bool)):
        given = {"bias": 0.5} if op.name == "Shrink" else {}  # type: ignore[attr-defined]
        try:
            y = op.function(x, **given)  # type: ignore[attr-defined]
        except (RuntimeError, NotImplementedError):
            continue  # not of this type
        assert y.data_ptr() != x.data_ptr()


def test_attributes_decide() -> None:
    gelu, fast = of("Gelu", {}), of("Gelu", {"approximate": "tanh"})
    assert gelu is not None
    assert fast is not None
    assert (gelu[0].name, fast[0].name) == ("gelu", "gelu_tanh")
    assert of("Swish", {"alpha": 1.7}) is None
    assert of("Clip", {}) is None


def test_what_kernels_lack_is_a_step_of_its_own_on_a_gpu() -> None:
    name = "thresholded_relu"
    step = Step(
        "fastgan.Linear", ("x", "w"), ("y",), {}, Epilogue(name, (0.3,)), origin=("dense", "act")
    )
    buffers = {n: Buffer(n, (2, 4), torch.float32) for n in "xy"}
    plan = Plan(("x",), ("y",), (step,), buffers, {"w": torch.eye(4)})
    merged = merge(plan)
    assert [s.op for s in merged.steps] == ["fastgan.Linear", "ThresholdedRelu"]
    assert [s.origin for s in merged.steps] == [("dense",), ("act",)]
    assert merged.steps[1].attributes == {"alpha": 0.3}
    x = torch.linspace(-1, 1, 8).reshape(2, 4)
    steps = [operators.bind(s, plan.weights, 18, CPU, torch.float32) for s in merged.steps]
    y = PlanExecutable(merged, steps, CPU, torch.float32)({"x": x})["y"]
    assert torch.equal(y, torch.where(x > 0.3, x, 0.0))
