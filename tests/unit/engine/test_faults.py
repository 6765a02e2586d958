"""What torch raises in a step is an error of ours that names the step; our own faults stay seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

import fastgan
from fastgan import ArgumentError, BackendError, FastganError, UnsupportedError
from fastgan.engine.faults import FAULTS
from fastgan.engine.library import backend as torch_backend
from fastgan.engine.library.executor import BoundStep, PlanExecutable
from fastgan.inputs import given
from fastgan.model.signature import Input
from fastgan.plan import Buffer, Plan, Step
from tests.unit.models import graph_model, value

CPU = torch.device("cpu")


def failing(error: Exception) -> PlanExecutable:
    """A plan of one step, which raises."""

    def call(x: torch.Tensor) -> torch.Tensor:
        raise error

    step = Step("Tanh", ("x",), ("y",), origin=("first", "second"))
    buffers = {name: Buffer(name, (2,), torch.float32) for name in "xy"}
    plan = Plan(("x",), ("y",), (step,), buffers, {})
    return PlanExecutable(plan, [BoundStep(step, call, ("x",))], CPU, torch.float32)


KINDS = [
    (RuntimeError("sizes differ\nat a place"), UnsupportedError),
    (ValueError("of no use"), UnsupportedError),
    (TypeError("not that"), UnsupportedError),
    (NotImplementedError('"fill_cpu" not implemented'), UnsupportedError),
    (ZeroDivisionError("division by zero"), UnsupportedError),
    (OverflowError(), UnsupportedError),
    (IndexError("index 7 is out of range"), ArgumentError),
    (MemoryError(), BackendError),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), BackendError),
]


@pytest.mark.parametrize("first_nonfinite", [False, True])
@pytest.mark.parametrize(("error", "kind"), KINDS, ids=[repr(error) for error, _ in KINDS])
def test_a_step_that_fails(error: Exception, kind: type, first_nonfinite: bool) -> None:
    executable = failing(error)
    run = executable.first_nonfinite if first_nonfinite else executable
    with pytest.raises(kind, match=r"^first \+ second: ") as caught:
        run({"x": torch.zeros(2)})
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [AttributeError("x"), AssertionError("x"), NameError("x")])
def test_a_fault_of_our_own_is_not_masked(error: Exception) -> None:
    assert not isinstance(error, FAULTS)
    with pytest.raises(type(error)):
        failing(error)({"x": torch.zeros(2)})


def test_what_is_ours_already_and_a_gpus_memory_pass() -> None:
    for error in (ArgumentError("a", "b", "c"), torch.cuda.OutOfMemoryError("full")):
        with pytest.raises(type(error)) as caught:
            failing(error)({"x": torch.zeros(2)})
        assert caught.value is error


def test_a_step_that_cannot_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*arguments: object) -> None:
        raise RuntimeError("no primitive for that")

    monkeypatch.setattr(torch_backend.library, "bind", bind)
    data = graph_model([helper.make_node("Tan", ["x"], ["y"], name="wave")], [value("x", ["n", 2])])
    with pytest.raises(BackendError, match="wave: found no primitive for that"):
        fastgan.load(data, device="cpu", backend="torch")


@pytest.mark.parametrize("dtype", ["int4", "uint4", "uint2", "object"])
def test_elements_that_torch_does_not_fill(dtype: str) -> None:
    with pytest.raises(UnsupportedError, match=f"input 'x': found elements of type {dtype}"):
        given.element_type(Input("x", "tensor", (0,), dtype))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "said"),
    [
        (
            "ConvTranspose",
            ["x", "w"],
            {"strides": [3, 2, 63, 2], "output_shape": [10, 8]},
            "strides",
        ),
        ("Conv", ["x", "w"], {"pads": [1, 1]}, "pads"),
        ("Concat", [""], {"axis": 1}, "nothing"),
    ],
)
def test_what_fits_no_axes_is_one_error(op, inputs, attributes, said) -> None:
    node = helper.make_node(op, inputs, ["y"], **attributes)
    ports = [value("x", [1, 1, 3, 3]), value("w", [1, 1, 3, 3])]
    data = graph_model([node], ports)
    with pytest.raises(BackendError, match=said):
        fastgan.load(data, backend="torch", device="cpu")


HOSTILE = [
    ("OneHot", ["x", "c", "c"], np.zeros(0, np.int64)),  # ends the process in ONNX Runtime
    ("CumSum", ["x", "c"], np.zeros(0, np.int64)),
    ("CumSum", ["x", "c"], np.array([np.nan], np.float32)),
    ("Expand", ["x", "c"], np.array([1 << 62, 1, 1])),
    ("ScatterND", ["x", "c", "x"], np.int64(0)),
]


@pytest.mark.parametrize(("op", "inputs", "constant"), HOSTILE)
def test_a_constant_that_an_op_cannot_take(op, inputs, constant) -> None:
    node = helper.make_node(op, inputs, ["y"])
    data = graph_model([node], [value("x", ["n", 4, 4])], weights={"c": np.asarray(constant)})
    with pytest.raises(FastganError):
        fastgan.load(data, device="cpu").run({"x": torch.ones(2, 4, 4)})


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(FastganError, match="null byte"):
        fastgan.load("a\0b.onnx")
