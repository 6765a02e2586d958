"""A session plans each shape once, from `load` on; and what backends say of themselves."""

from __future__ import annotations

import pickle
from collections import Counter
from copy import copy as copied
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

import fastgan
from fastgan.engine import TABLE, Backend, Executable, Session, Target, get
from fastgan.errors import ArgumentError, BackendError, Refusal
from fastgan.images.format import as_asked
from fastgan.loading import open_model
from fastgan.plan import lower as lowering
from fastgan.plan import specialise as specialising
from tests import networks

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("session") / "m.onnx"
    module = networks.dcgan(9, 4, 3, seed=1)
    fastgan.export(module, made, latent=(9, 1, 1), verify=False)
    return made


def frozen(path: Path) -> Path:
    """A model whose samples meet, at a batch of 2 that is declared."""
    ports = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])]
    nodes = [helper.make_node("CumSum", ["z", "axis"], ["y"])]
    axis = helper.make_tensor("axis", TensorProto.INT64, [], [0])
    graph = helper.make_graph(nodes, "g", ports, made, [axis])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, ...]]:
    """How often a plan was lowered, by the shape of its first input."""
    counted: Counter[tuple[int, ...]] = Counter()
    lower = lowering.lower

    def counting(graph):
        plan = lower(graph)
        counted[tuple(plan.buffers[plan.inputs[0]].shape)] += 1
        return plan

    monkeypatch.setattr(lowering, "lower", counting)
    return counted


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, ...]]:
    """How often the graph was bound, by the shape of its first input."""
    counted: Counter[tuple[int, ...]] = Counter()
    specialise = specialising.specialise

    def counting(model, shapes, *rest):
        counted[next(iter(shapes.values()))] += 1
        return specialise(model, shapes, *rest)

    monkeypatch.setattr(specialising, "specialise", counting)
    return counted


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_each_shape_is_planned_once(path, planned, bound, monkeypatch, backend) -> None:
    if backend == "triton":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    generator = fastgan.load(path, backend=backend, device="cpu")
    assert sum(planned.values()) == 1
    generator.generate(1)
    generator.generate(3, batch_size=3)
    generator.generate(4, batch_size=3, format="uint8")
    generator.plan(1)
    assert planned == bound == {(1, 9, 1, 1): 1, (3, 9, 1, 1): 1}


def test_a_pickle_is_planned_once_as_well(path, planned) -> None:
    held = pickle.dumps(fastgan.load(path, backend="torch", device="cpu"))
    planned.clear()
    pickle.loads(held).generate(1)
    assert planned == {(1, 9, 1, 1): 1}


def test_a_batch_that_was_frozen_is_planned_once(tmp_path, planned) -> None:
    module = torch.nn.Sequential(torch.nn.ConvTranspose2d(6, 3, 4), torch.nn.Tanh())
    torch.onnx.export(
        module, (torch.zeros(2, 6, 1, 1),), tmp_path / "m.onnx", dynamo=False, input_names=["z"]
    )
    generator = fastgan.load(tmp_path / "m.onnx", backend="torch", device="cpu")
    for n in (1, 2, 3):
        generator.generate(n)
    assert set(planned.values()) == {1}


def test_a_model_that_is_refused_is_planned_by_nobody_else(tmp_path, planned) -> None:
    generator = fastgan.load(frozen(tmp_path / "m.onnx"), backend="ort", device="cpu")
    assert generator.generate(2).shape == (2, 4)
    assert not planned


@pytest.mark.parametrize("name", TABLE)
def test_what_a_backend_says_of_itself(name, path, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    backend = get(name)
    assert backend.name == name
    session = backend.open(open_model(path), Target(CPU, "fp32"))
    assert isinstance(session, Session)
    assert (session.plans, session.owns_batch) == ((True, False), (False, True))[name == "ort"]
    assert (session.fallbacks, session.owns_noise) == ((), False)
    assert (session.plan(1) is not None) == session.plans
    missing = backend.open(open_model(path), Target(CPU, "fp8"))
    assert isinstance(missing, Refusal) == ("fp8" not in backend.precisions)


def test_sessions_on_one_model_share_what_they_can(path, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name in ("triton", "ort"):
        generator = fastgan.load(path, backend=name, device="cpu")
        assert copied(generator)._session.shared is generator._session.shared


@pytest.mark.parametrize("backend", ["auto", *TABLE])
def test_a_bad_word_to_debug_is_an_error_at_load(path, monkeypatch, backend) -> None:
    monkeypatch.setenv("FASTGAN_DEBUG", "plan,sideways")
    with pytest.raises(ArgumentError, match=r"FASTGAN_DEBUG.*'sideways'"):
        fastgan.load(path, backend=backend, device="cpu")


# What a backend has to say ------------------------------------------------------------------------


class Halves(Executable):
    """Takes what comes, and makes images of one half."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self._name, self._shape = name, shape

    def __call__(self, inputs):
        return {self._name: torch.full(self._shape, 0.5)}

    def images(self, inputs, image, out=None):
        return as_asked(self(inputs)[image.name], image), None

    def first_nonfinite(self, inputs):
        return None


class ToySession(Session):
    plans = False

    def compile(self, shapes, target):
        (latent,) = shapes.values()
        made = self.model.output
        return Halves(made.name, (latent[0], *made.shape[1:]))


class ToyBackend(Backend):
    name, devices, precisions, session = "toy", ("cpu",), ("fp32",), ToySession

    def lacks(self, target):
        return None if target.precision == "fp32" else Refusal("toy", "precision", "other", "fp32")


BACKEND = ToyBackend()


def test_a_backend_is_a_module_and_a_line_in_the_table(path, monkeypatch) -> None:
    monkeypatch.setitem(TABLE, "toy", __name__)
    g = fastgan.load(path, backend="toy", device="cpu")
    assert (g.backend, g.plan(3)) == ("toy", None)
    g.warm_up([2], tune=True)
    assert torch.equal(g.generate(70), torch.full((70, 3, 64, 64), 0.5))
    assert g.generate(2, format="uint8").unique().tolist() == [191]
    assert g.at("bf16") is None
    assert copied(g).backend == "toy"
    with g.stream(frames=2, policy="every", format="float32") as stream:
        assert [float(frame.images.mean()) for frame in stream] == [0.5, 0.5]
    with pytest.raises(BackendError, match="toy: precision: found other; needed fp32"):
        fastgan.load(path, backend="toy", device="cpu", precision="bf16")
