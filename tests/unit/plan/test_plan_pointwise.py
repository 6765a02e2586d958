"""Merged elementwise steps against the same steps one by one, in any shape of chain."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import Tensor

from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import PlanExecutable
from fastgan.plan import Buffer, Plan, Step
from fastgan.plan.merge import MOST_KEPT, MOST_TENSORS, merge

CPU = torch.device("cpu")
SHAPE = (2, 3, 4, 5)
UNARY = ("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Erf", "Sin", "Softplus", "HardSwish", "Mish")


def _step(op: str, inputs: tuple[str, ...], out: str, **attributes: object) -> Step:
    return Step(op, inputs, (out,), attributes, origin=(out,))


def _plan(
    steps: list[Step], inputs: dict[str, tuple[int, ...]], weights: dict[str, Tensor]
) -> Plan:
    made = {name: Buffer(name, shape, torch.float32) for name, shape in inputs.items()}
    made |= {s.outputs[0]: Buffer(s.outputs[0], SHAPE, torch.float32) for s in steps}
    return Plan(tuple(inputs), (steps[-1].outputs[0],), tuple(steps), made, weights)


def _run(plan: Plan, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    steps = [library.bind(step, plan.weights, 20, CPU, torch.float32) for step in plan.steps]
    return PlanExecutable(plan, steps, CPU, torch.float32)(inputs)


def _check(plan: Plan) -> Plan:
    inputs = {name: torch.randn(plan.buffers[name].shape) for name in plan.inputs}
    merged = merge(plan)
    for name, expected in _run(plan, inputs).items():
        torch.testing.assert_close(_run(merged, inputs)[name], expected, atol=1e-5, rtol=1e-5)
    for step in merged.steps:
        if step.op == "fastgan.Pointwise":
            assert len(step.inputs) <= MOST_TENSORS
            assert max(max(i.keep, i.kept) for i in step.attributes["program"]) < MOST_KEPT
    return merged


@pytest.mark.parametrize("number", range(30))
def test_random_graphs(number: int) -> None:
    source = random.Random(torch.initial_seed())
    inputs = {"a": SHAPE, "b": SHAPE, "row": (2, 3, 1, 1), "pixel": (1, 1, 4, 5)}
    weights = {"w": torch.randn(3, 1, 1), "half": torch.tensor(0.5), "three": torch.tensor([3.0])}
    names = [*inputs, *weights]
    steps: list[Step] = []
    for index in range(source.randint(1, 14)):
        out = f"v{index}"
        first = source.choice(["a", "b", *[s.outputs[0] for s in steps[-4:]]])
        kind = source.random()
        if kind < 0.4:
            steps.append(_step(source.choice(UNARY), (first,), out))
        elif kind < 0.5:
            steps.append(_step("LeakyRelu", (first,), out, alpha=source.random()))
        elif kind < 0.6:
            steps.append(_step("PRelu", (first, "w"), out))
        else:
            pair = (first, source.choice([*names, *[s.outputs[0] for s in steps]]))
            op = source.choice(("Add", "Sub", "Mul"))
            steps.append(_step(op, pair if source.random() < 0.5 else pair[::-1], out))
    merged = _check(_plan(steps, inputs, weights))
    assert all(step.op == "fastgan.Pointwise" for step in merged.steps)


def _ops(plan: Plan) -> Counter[str]:
    return Counter(step.op for step in plan.steps)


def test_what_two_read_is_merged_when_both_are() -> None:
    steps = [
        _step("Mul", ("a", "half"), "half_a"),
        _step("Erf", ("a",), "curve"),
        _step("Add", ("curve", "one"), "raised"),
        _step("Mul", ("half_a", "raised"), "gelu"),
        _step("Mul", ("gelu", "half_a"), "out"),
    ]
    weights = {"half": torch.tensor(0.5), "one": torch.tensor(1.0)}
    merged = _check(_plan(steps, {"a": SHAPE}, weights))
    assert len(merged.steps) == 1
    assert merged.steps[0].inputs == ("a",)
    assert set(merged.steps[0].origin) == {s.outputs[0] for s in steps}
    assert set(merged.buffers) == {"a", "out"}


def test_numbers_powers_and_bounds() -> None:
    steps = [
        _step("Clip", ("a", "low", "high"), "clipped"),
        _step("Pow", ("clipped", "two"), "squared"),
        _step("Pow", ("squared", "cube"), "cubed"),
        _step("Div", ("one", "more"), "inverse"),
        _step("Div", ("cubed", "inverse"), "out"),
    ]
    steps.insert(3, _step("Add", ("cubed", "two"), "more"))
    numbers = {"low": -1.0, "high": 0.75, "two": 2.0, "cube": 3.0, "one": 1.0}
    weights = {name: torch.tensor(value) for name, value in numbers.items()}
    assert len(_check(_plan(steps, {"a": SHAPE}, weights)).steps) == 1


def test_a_norm_of_constant_statistics_is_a_scale_and_a_shift() -> None:
    names = ("scale", "shift", "mean", "variance")
    weights = {name: torch.rand(3) + 0.5 for name in names}
    steps = [
        _step("Relu", ("a",), "positive"),
        _step("BatchNormalization", ("positive", *names), "norm", epsilon=1e-3),
        _step("Tanh", ("norm",), "out"),
    ]
    assert _ops(_check(_plan(steps, {"a": SHAPE}, weights))) == {"fastgan.Pointwise": 1}


def test_what_is_read_elsewhere_is_kept() -> None:
    steps = [
        _step("Relu", ("a",), "positive"),
        _step("GlobalAveragePool", ("positive",), "mean"),
        _step("Sigmoid", ("mean",), "gate"),
        _step("Mul", ("positive", "gate"), "out"),
    ]
    plan = _plan(steps, {"a": SHAPE}, {})
    buffers = dict(plan.buffers)
    for name in ("mean", "gate"):
        buffers[name] = Buffer(name, (2, 3, 1, 1), torch.float32)
    merged = _check(Plan(plan.inputs, plan.outputs, plan.steps, buffers, {}))
    # A gate of one number per channel is not made again for every pixel.
    assert _ops(merged) == {"fastgan.Pointwise": 3, "GlobalAveragePool": 1}


def test_whole_numbers_and_five_axes_stay() -> None:
    five = (1, 2, 2, 2, 2)
    plan = Plan(
        ("n", "v"),
        ("m", "w"),
        (_step("Neg", ("n",), "m"), _step("Neg", ("v",), "w")),
        {
            **{name: Buffer(name, (3, 2), torch.int64) for name in "nm"},
            **{name: Buffer(name, five, torch.float32) for name in "vw"},
        },
        {},
    )
    assert [step.op for step in merge(plan).steps] == ["Neg", "Neg"]
