"""Recurrent layers in the native graph, held to PyTorch's own ops and to torch.nn."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import node as node_cases
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastgan
from fastgan.engine.library.executor import PlanExecutable
from fastgan.engine.native import graph
from fastgan.engine.native.packing import Shared
from fastgan.engine.native.records import Constants, Kind
from fastgan.host.native import _native
from fastgan.model.file import read
from fastgan.plan import Buffer, Step, make
from tests import drawing
from tests.unit.engine.native_networks import (
    CPU,
    OPSET,
    Network,
    bind,
    check,
    native_of,
    other,
    threads,
)

__all__ = ["threads"]

pytestmark = pytest.mark.cpu

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}

#: What gates may do to their sums: first those with bounds; one that jumps and one that is never 0,
#: for single steps.
BOUNDED = ("Tanh", "Sigmoid", "ScaledTanh", "HardSigmoid", "Softsign")
FUNCTIONS = (*BOUNDED, "Relu", "Affine", "LeakyRelu", "Elu")
ONCE = ("ThresholdedRelu", "Softplus")


def add_layer(
    net: Network,
    op: str,
    x: str,
    hidden: int,
    draw: random.Random,
    *,
    layout: int | None = None,
    least: int = 0,
    functions: Sequence[str] = FUNCTIONS,
) -> tuple[str, ...]:
    """A layer with some of what it may have; the names of all its outputs.

    least: steps of a sequence. functions: what its gates may do to their sums.
    """
    direction = draw.choice(["forward", "reverse", "bidirectional"])
    both = 2 if direction == "bidirectional" else 1
    layout = draw.randint(0, 1) if layout is None else layout
    time, images, size = net.shapes[x]
    if layout:
        time, images = images, time
    rows = GATES[op] * hidden

    def weight(*shape: int, scale: float = 1.0) -> str:
        """A constant, or what the graph makes of one."""
        name = net.weight(*shape, scale=scale)
        return (
            net.add("Mul", [name, net.weight(1)], shape) if made and draw.random() < 0.6 else name
        )

    made = draw.random() < 0.2
    scale = min(0.3, hidden**-0.5)  # so that no sequence runs away
    names = [x, weight(both, rows, size, scale=0.3), weight(both, rows, hidden, scale=scale)]
    names.append(weight(both, 2 * rows) if draw.random() < 0.7 else "")
    lengths = [draw.randint(least, time) for _ in range(images)]
    names.append(net.host(lengths, torch.int32) if draw.random() < 0.4 else "")
    state = (images, both, hidden) if layout else (both, images, hidden)
    for _ in range(2 if op == "LSTM" else 1):
        given = draw.choice(["none", "weight", "made"])
        names.append("" if given == "none" else net.weight(*state))
        if given == "made":
            names[-1] = net.add("Add", [names[-1], net.weight(1)], state)
    if op == "LSTM" and draw.random() < 0.5:
        names.append(weight(both, 3 * hidden))
    while not names[-1]:
        names.pop()
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction, "layout": layout}
    attributes |= functions_of(op, both, draw, functions)
    if op == "GRU":
        attributes["linear_before_reset"] = draw.randint(0, 1)
    made_names = tuple(f"{op}{len(net.steps)}.{i}" for i in range(3 if op == "LSTM" else 2))
    first = (images, time, both, hidden) if layout else (time, both, images, hidden)
    net.shapes |= dict(zip(made_names, (first, state, state), strict=False))
    net.steps.append(Step(op, tuple(names), made_names, attributes, origin=(made_names[0],)))
    return made_names


def functions_of(
    op: str, directions: int, draw: random.Random, functions: Sequence[str]
) -> dict[str, Any]:
    """Some of the attributes about what gates do to their sums."""
    found: dict[str, Any] = {}
    if draw.random() < 0.3:
        found["clip"] = draw.choice([0.3, 1.0, 5.0])
    if op == "LSTM" and draw.random() < 0.3:
        found["input_forget"] = 1
    if draw.random() < 0.4:
        each = {"RNN": 1, "GRU": 2, "LSTM": 3}[op]
        count = directions * each
        found["activations"] = [
            # What opens and closes has bounds, or memories would run away.
            draw.choice(BOUNDED if op != "RNN" and i % each == 0 else functions)
            for i in range(count)
        ]
        for name in ("activation_alpha", "activation_beta"):
            # All of them, since ONNX Runtime takes 0 for some that are left out.
            found[name] = [draw.uniform(0.1, 0.5) for _ in range(count)]
    return found


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("hidden", [1, 5, 16, 37, 160])
def test_recurrent_layers(op: str, hidden: int) -> None:
    draw = random.Random(f"{op} {hidden} {drawing.new_seed()}")
    for images, time in ((1, 9), (3, 4), (2, 1), (4, 3), (9, 2)):
        net = Network(x=(time, images, 7))
        check(net.plan(*add_layer(net, op, "x", hidden, draw)), 2e-5)


@pytest.mark.parametrize("op", GATES)
def test_samples_do_not_depend_on_the_batch(op: str) -> None:
    net = Network(x=(6, 5, 4))
    rows = GATES[op] * 40
    names = ["x", net.weight(1, rows, 4), net.weight(1, rows, 40), net.weight(1, 2 * rows)]
    attributes = {"hidden_size": 40, "linear_before_reset": 1} if op == "GRU" else {}
    made = net.add(op, names, (6, 1, 5, 40), **attributes)
    net.steps[-1] = Step(op, tuple(names), (made,), attributes, origin=(made,))
    x = torch.randn(6, 5, 4)
    together = native_of(net.plan(made))({"x": x})[made]
    for i in range(5):
        net.shapes |= {"x": (6, 1, 4), made: (6, 1, 1, 40)}
        alone = native_of(net.plan(made))({"x": x[:, i : i + 1].contiguous()})[made]
        assert torch.equal(alone[:, :, 0], together[:, :, i])


def test_what_lies_behind_the_end_is_not_seen() -> None:
    """A NaN behind a sequence's end is nothing to what is kept of it."""
    net = Network(x=(5, 2, 3))
    names = ["x", net.weight(1, 24, 3), net.weight(1, 24, 6), "", net.host([2, 5], torch.int32)]
    shape = {"y": (5, 1, 2, 6), "h": (1, 2, 6), "c": (1, 2, 6)}
    net.shapes |= shape
    net.steps.append(Step("LSTM", tuple(names), tuple(shape), {"hidden_size": 6}, origin=("y",)))
    run = native_of(net.plan(*shape))
    x = torch.randn(5, 2, 3)
    expected = run({"x": x})
    x[2:, 0] = torch.nan
    found = run({"x": x})
    for name in shape:
        assert torch.equal(found[name], expected[name]), name
    assert not expected["y"][2:, 0, 0].any()


def test_lengths_that_the_library_makes() -> None:
    """Whole numbers of another step go in as any do that a caller gives."""
    net = Network(x=(3, 2, 4), n=(2,))
    lengths = net.add("Cast", ["n"], (2,), to=TensorProto.INT32)
    names = ["x", net.weight(1, 18, 4), net.weight(1, 18, 6), net.weight(1, 36), lengths]
    y = net.add("GRU", names, (3, 1, 2, 6), hidden_size=6, linear_before_reset=1)
    for _ in range(3):
        y = net.add("Softmax", [y], net.shapes[y], axis=-1)
    plan = net.plan(y)
    plan = replace(plan, buffers={**plan.buffers, lengths: Buffer(lengths, (2,), torch.int32)})
    made = graph.executable(plan, OPSET, bind, other)
    assert isinstance(made, graph.MixedExecutable)
    assert [step.op for step in made.plan.steps] == ["Cast", graph.OPERATOR]
    steps = [bind(plan, index) for index in range(len(plan.steps))]
    given = {"x": torch.randn(3, 2, 4), "n": torch.tensor([1.0, 3.0])}
    expected = PlanExecutable(plan, steps, CPU, torch.float32)(given)[y]
    torch.testing.assert_close(made(given)[y], expected)


@pytest.mark.parametrize("op", GATES)
def test_packed_sequences_of_torch(op: str, tmp_path: Path) -> None:
    """As PyTorch exports them, to the last native step."""
    module = Packed(getattr(nn, op)(4, 6, num_layers=2, bidirectional=True))
    file = tmp_path / "packed.onnx"
    x, n = torch.randn(5, 3, 4), torch.tensor([5, 4, 2])
    torch.onnx.export(module, (x, n), file, dynamo=False, input_names=["x", "n"])
    found = fastgan.load(file, backend="torch", strict=True, device="cpu")
    plan = found.plan(3)
    assert not any(step.note for step in plan.steps), plan.steps
    for lengths in (n, torch.tensor([5, 5, 1])):
        with torch.no_grad():
            expected = module(x, lengths)
        (made,) = found.run({"x": x, "n": lengths}).values()
        torch.testing.assert_close(made, expected)


class Packed(nn.Module):
    """A layer of sequences that end before others."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        y, _ = self.layer(pack_padded_sequence(x, n))
        return pad_packed_sequence(y, total_length=5)[0].tanh()


def of_file(model: onnx.ModelProto) -> fastgan.Generator:
    """Natively, all of it."""
    found = fastgan.load(model.SerializeToString(), backend="torch", strict=True, device="cpu")
    assert not any(step.note for step in found.plan(1).steps)
    return found


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize(("time", "functions"), [(6, FUNCTIONS), (1, ONCE)])
def test_recurrent_layers_as_in_onnx_runtime(op: str, time: int, functions: Sequence[str]) -> None:
    draw = random.Random(f"{op} {time} {drawing.new_seed()}")
    for _ in range(6):
        net = Network(x=(draw.randint(1, time), draw.randint(1, 6), draw.randint(1, 9)))
        # Of layout it has none, and no sequence of no steps.
        made = add_layer(net, op, "x", draw.choice([1, 4, 16, 19]), draw, layout=0, least=1,
                         functions=functions)  # fmt: skip
        nodes = [helper.make_node(s.op, s.inputs, s.outputs, **s.attributes) for s in net.steps]
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, net.shapes[name])
            for name in ("x", *made)
        ]
        weights = [numpy_helper.from_array(t.numpy(), name) for name, t in net.weights.items()]
        model = helper.make_model(
            helper.make_graph(nodes, op, ports[:1], ports[1:], weights),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
        )
        x = torch.randn(net.shapes["x"])
        session = onnxruntime.InferenceSession(model.SerializeToString())
        expected = session.run(None, {"x": x.numpy()})
        found = of_file(model).run({"x": x})
        for name, by_it in zip(made, expected, strict=True):
            np.testing.assert_allclose(
                found[name], by_it, rtol=1e-4, atol=2e-5, err_msg=f"{net.steps[-1]}"
            )


def cases() -> list[Any]:
    """ONNX's own of recurrent layers, their weights given with each call."""
    for op in GATES:  # a case is known once its module is; to import all takes half a minute
        importlib.import_module(f"{node_cases.__name__}.{op.lower()}")
    every = node_cases._NodeTestCases
    return [case for case in every if case.model.graph.node[0].op_type in GATES]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_onnx_cases_run_natively(case: Any) -> None:
    plan = make(
        read(case.model.SerializeToString()).model,
        {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in case.model.graph.input
        },
    )
    run = native_of(plan)
    assert not any(step.note for step in run.plan.steps)
    for inputs, outputs in case.data_sets:
        names = [value.name for value in case.model.graph.input]
        given = {n: torch.from_numpy(np.array(a)) for n, a in zip(names, inputs, strict=True)}
        made = run(given)
        for value, expected in zip(case.model.graph.output, outputs, strict=True):
            np.testing.assert_allclose(made[value.name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", GATES)
def test_damaged_records_are_refused(op: str) -> None:
    """Each field beyond what it may be; bundles are read so."""
    net = Network(x=(4, 3, 2))
    rows = GATES[op] * 5
    names = ["x", net.weight(1, rows, 2), net.weight(1, rows, 5), net.weight(1, 2 * rows)]
    names.append(net.host([4, 2, 1], torch.int32))
    y = net.add(op, names, (4, 1, 3, 5), hidden_size=5, clip=2.0)
    constants = Constants()
    made = graph.lowered(net.plan(y), OPSET, constants)
    words = np.frombuffer(made.records, "<i8")
    first = len(words) - 1 - words[::-1].tolist().index(Kind.ANY_RECURRENT)
    entries = [(t.data_ptr(), t.numel(), 0) for t in constants.tensors]

    def read_records(changed: np.ndarray[Any, Any]) -> None:
        _native.runtime.Graph(
            records=changed.tobytes(),
            arena=made.arena,
            tensors=[meta.numel() for _, meta in (*made.inputs, *made.outputs)],
            constants=entries,
            weights=Shared().native,
        )

    read_records(words)
    taken = []
    for index in range(first + 1, len(words)):
        for value in (-3, (1 << 62) + 1):
            changed = words.copy()
            changed[index] = value
            try:
                read_records(changed)
            except ValueError:
                continue
            taken.append((len(words) - index, value))
    # From the end: the clip, and alpha and beta of three functions, which any number will do for.
    reals = {2, 3, 4, 6, 7, 9, 10}
    assert {index for index, _ in taken} <= reals


@pytest.mark.parametrize("kept", [("", "h", ""), ("y", "", "c"), ("", "", "c")])
def test_outputs_that_nobody_wants(kept: tuple[str, str, str]) -> None:
    """By a file, since a plan is made of one: absent outputs have no name there."""
    module = torch.nn.LSTM(3, 5)
    order = [0, 3, 1, 2]  # ONNX has input, output, forget, new
    parts = {
        name: torch.cat([value.detach().chunk(4)[i] for i in order])[None]
        for name, value in module.named_parameters()
    }
    weights = {
        "W": parts["weight_ih_l0"],
        "R": parts["weight_hh_l0"],
        "B": torch.cat([parts["bias_ih_l0"], parts["bias_hh_l0"]], 1),
    }
    outputs = [name for name in kept if name]
    node = helper.make_node("LSTM", ["x", *weights], kept, hidden_size=5)
    spread = [helper.make_node("Tanh", [name], [f"{name}.out"]) for name in outputs]
    model = helper.make_model(
        helper.make_graph(
            [node, *spread],
            "lstm",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2, 3])],
            [
                helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None)
                for name in outputs
            ],
            [
                helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.flatten().tolist())
                for name, value in weights.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    g = fastgan.load(model.SerializeToString(), backend="torch", strict=True, device="cpu")
    assert not any(step.note for step in g.plan(2).steps)
    x = torch.randn(4, 2, 3)
    with torch.no_grad():
        y, (h, c) = module(x)
    expected = {"y": y[:, None], "h": h, "c": c}
    found = g.run({"x": x})
    for name in outputs:
        torch.testing.assert_close(found[f"{name}.out"], expected[name].tanh())
