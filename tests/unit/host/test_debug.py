"""FASTGAN_DEBUG, and the names that steps have while they run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.profiler import profile

import fastgan
from fastgan import models
from fastgan.engine import launches
from fastgan.errors import ArgumentError
from fastgan.host import debug
from fastgan.measure.why import why
from fastgan.model.file import read
from fastgan.plan import make
from fastgan.plan.rewrite.watch import Watch

FLOAT = TensorProto.FLOAT


@pytest.fixture
def convolution() -> bytes:
    """image [1, 2, 4, 4] -> conv -> plus what depends on data -> relu -> out."""
    weight = torch.ones(2, 2, 1, 1).numpy()
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["convolved"], "conv"),
        helper.make_node("GlobalAveragePool", ["image"], ["mean"], "mean"),
        helper.make_node("Add", ["convolved", "mean"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["out"], "relu"),
    ]
    ports = [helper.make_tensor_value_info(n, FLOAT, [1, 2, 4, 4]) for n in ("image", "out")]
    graph = helper.make_graph(
        nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


SHAPES: Mapping[str, tuple[int, ...]] = {"image": (1, 2, 4, 4)}


def test_a_watch_sees_what_fired_and_the_reason_of_what_did_not(convolution: bytes) -> None:
    watch = Watch()
    make(read(convolution).model, SHAPES, watch=watch)
    fired = {(one.stage, one.rule, one.nodes) for one in watch.fired}
    assert ("normal form of products", "NormaliseConv", ("conv",)) in fired
    missed = {(one.rule, one.nodes[0], one.reason) for one in watch.missed if one.checked}
    assert ("AddBias(Conv)", "add", "the term depends on data") in missed
    lines = list(watch.report())
    assert "  fired 1x NormaliseConv" in lines
    assert "  not AddBias(Conv) at add: the term depends on data" in lines


def test_no_miss_is_reported_where_the_pass_had_a_rule_after_all() -> None:
    watch = Watch()
    path = models.path("restore-photos")
    make(read(path).model, {"image": (1, 3, 64, 64)}, watch=watch)
    fired = [one for one in watch.fired if one.rule == "AddResidual(Conv)"]
    assert len(fired) == 6
    assert [m for m in watch.missed if m.rule == "AddResidual(Conv)"]
    assert not watch.nearest("sum into the epilogue")


def test_rewrite_and_plan_are_told(
    convolution: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make(read(convolution).model, SHAPES)
    assert capfd.readouterr().err == ""
    monkeypatch.setenv(debug.VARIABLE, "plan, rewrite")
    make(read(convolution).model, SHAPES)
    err = capfd.readouterr().err.splitlines()
    assert "rewrite:   not AddBias(Conv) at add: the term depends on data" in err
    assert "plan:   1 Conv 1x2x4x4 [2x2x1x1] -> 1x2x4x4" in err


def test_launches_are_told_with_their_shapes(
    convolution: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(debug.VARIABLE, "launch")
    g = fastgan.load(convolution, device="cpu", backend="torch")
    g.run({"image": torch.zeros(1, 2, 4, 4)})
    lines = capfd.readouterr().err.splitlines()
    assert "launch: 1 Conv: conv 1x2x4x4 [2x2x1x1] -> 1x2x4x4" in lines


def test_a_word_that_is_none(convolution: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debug.VARIABLE, "rewrite,plans")
    with pytest.raises(ArgumentError, match="'plans'; needed rewrite, plan, launch"):
        fastgan.load(convolution, device="cpu")


BACKENDS = ("torch", "triton")  # the second one interpreted: see conftest.py


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_profiler_sees_each_step_by_its_name(convolution: bytes, backend: str) -> None:
    g = fastgan.load(convolution, device="cpu", backend=backend, precision="fp32")
    x = {"image": torch.rand(1, 2, 4, 4)}
    plain = g.run(x)["out"]
    with profile() as seen:
        named = g.run(x)["out"]
    names = {event.key for event in seen.key_averages()}
    assert any(name.startswith("1 Conv") and name.endswith(": conv") for name in names), names
    torch.testing.assert_close(named, plain, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_observer_is_around_every_step_once(convolution: bytes, backend: str) -> None:
    g = fastgan.load(convolution, device="cpu", backend=backend, precision="fp32")
    seen: list[int] = []

    @contextlib.contextmanager
    def observer(index: int) -> Iterator[None]:
        seen.append(index)
        yield

    with launches.observed_by(observer):
        g.run({"image": torch.rand(1, 2, 4, 4)})
    plan = g.plan(1)
    assert plan is not None
    assert [index for index in seen if index >= 0] == list(range(len(plan.steps)))
    seen.clear()
    g.run({"image": torch.rand(1, 2, 4, 4)})
    assert not seen


def test_why_says_what_became_of_a_node(convolution: bytes) -> None:
    model = read(convolution).model
    lines = list(why(model, SHAPES, "convolved"))  # by its output
    assert lines[:2] == [
        "conv: Conv -> convolved",
        "  in step 1 of 4: Conv 1x2x4x4 [2x2x1x1] -> 1x2x4x4",
    ]
    assert "  by NormaliseConv (normal form of products)" in lines
    missed = "  not AddBias(Conv) (constants into weight and bias): the term depends on data"
    assert missed in lines
    assert missed in list(why(model, SHAPES, "add"))


def test_why_of_a_node_that_is_none_names_one_that_is(convolution: bytes) -> None:
    with pytest.raises(ArgumentError, match="did you mean relu"):
        list(why(read(convolution).model, SHAPES, "rellu"))


def test_why_there_is_no_plan() -> None:
    node = helper.make_node("NonZero", ["x"], ["out"], "where")
    ports = (
        helper.make_tensor_value_info("x", FLOAT, [4]),
        helper.make_tensor_value_info("out", TensorProto.INT64, [1, None]),
    )
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    lines = list(why(read(model.SerializeToString()).model, {"x": (4,)}, "where"))
    assert lines[0] == "where: NonZero -> out"
    assert lines[1].startswith("  no plan, because of ")
    assert "NonZero" in lines[1]
