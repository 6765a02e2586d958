"""Plans of a few steps, run natively and by PyTorch's own ops."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan.engine import Executable
from fastgan.engine.library import operators
from fastgan.engine.library.executor import BoundStep, PlanExecutable
from fastgan.engine.native import graph
from fastgan.plan import Buffer, Epilogue, Plan, Step
from fastgan.plan.lower import with_releases
from tests import drawing

OPSET = 18
CPU = torch.device("cpu")
Shape = tuple[int, ...]


class Network:
    """A plan that is made step by step: each names its output's shape."""

    def __init__(self, **inputs: Shape) -> None:
        self.shapes: dict[str, Shape] = dict(inputs)
        self.inputs = tuple(inputs)
        self.weights: dict[str, Tensor] = {}
        self.steps: list[Step] = []

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = torch.randn(shape) * scale
        return name

    def host(self, values: float | Sequence[Any], dtype: torch.dtype = torch.int64) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = torch.tensor(values, dtype=dtype)
        return name

    def add(self, op: str, inputs: Sequence[str], shape: Shape, /, **attributes: Any) -> str:
        epilogue = attributes.pop("epilogue", Epilogue())
        name = f"t{len(self.steps)}"
        self.shapes[name] = shape
        self.steps.append(Step(op, tuple(inputs), (name,), attributes, epilogue, origin=(name,)))
        return name

    def split(self, x: str, sizes: Sequence[int], axis: int) -> tuple[str, ...]:
        shape = self.shapes[x]
        made = tuple(f"t{len(self.steps)}.{i}" for i in range(len(sizes)))
        for name, size in zip(made, sizes, strict=True):
            self.shapes[name] = (*shape[:axis], size, *shape[axis + 1 :])
        given = {"axis": axis, "num_outputs": len(sizes)}
        inputs = (x, self.host(sizes))
        self.steps.append(Step("Split", inputs, made, given, origin=("split",)))
        return made

    def plan(self, *outputs: str) -> Plan:
        buffers = {n: Buffer(n, s, torch.float32) for n, s in self.shapes.items()}
        steps = tuple(with_releases(self.steps, set(outputs), buffers))
        return Plan(self.inputs, outputs, steps, buffers, self.weights)


def other() -> Executable:
    raise AssertionError("nobody asked which step makes a NaN")


def bind(plan: Plan, index: int) -> BoundStep:
    return operators.bind(plan.steps[index], plan.weights, OPSET, CPU, torch.float32)


def native_of(plan: Plan, bf16: bool = False) -> graph.GraphExecutable:
    made = graph.executable(plan, OPSET, bind, other, bf16=bf16)
    assert isinstance(made, graph.GraphExecutable), made and [s.note for s in made.plan.steps]
    return made


def coarse(x: Tensor) -> Tensor:
    """Of so few bits that a product of two of them, or a sum of four, is a bf16 number."""
    return (8 * x).clamp(-8, 8).round() / 8 if x.is_floating_point() else x


def run_both(plan: Plan, bf16: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
    """(native, PyTorch) of each output. The arena is poisoned by a run on NaNs before.

    bf16: on numbers that rounding to it leaves alone.
    """
    inputs = {n: torch.randn(plan.buffers[n].shape) for n in plan.inputs}
    if bf16:
        inputs = {n: coarse(x) for n, x in inputs.items()}
        plan = replace(plan, weights={n: coarse(w) for n, w in plan.weights.items()})
    steps = [bind(plan, index) for index in range(len(plan.steps))]
    native = native_of(plan, bf16)
    expected = PlanExecutable(plan, steps, CPU, torch.float32)(inputs)
    native({n: torch.full_like(x, torch.nan) for n, x in inputs.items()})
    for _ in range(2):
        found = native(inputs)
        for name in plan.outputs:
            assert found[name].shape == expected[name].shape
            yield found[name], expected[name]


def check(plan: Plan, tolerance: float = 1e-5, bf16: bool = False) -> None:
    for found, expected in run_both(plan, bf16):
        scale = max(1.0, float(expected.abs().max()))
        error = float((found - expected).abs().max())
        assert error <= tolerance * scale, (
            error,
            scale,
            [(s.op, s.attributes) for s in plan.steps],
        )


@pytest.fixture(autouse=True, params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.manual_seed(drawing.new_seed())
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def epilogue_of(draw: random.Random, channels: int, bias: bool, residual: bool) -> Epilogue:
    name = draw.choice(["none", "relu", "leaky_relu", "prelu", "tanh", "silu", "gelu", "elu"])
    parameters = (0.3,) if name in ("leaky_relu", "elu") else ()
    slopes = tuple(draw.uniform(0, 1) for _ in range(channels)) if name == "prelu" else ()
    return Epilogue(name, parameters, slopes, bias=bias, residual=residual)


def add_convolution(net: Network, draw: random.Random, x: str, out: int, groups: int) -> str:
    """A convolution of either kind, of images or sequences, with anything that it may have."""
    n, c, *size = net.shapes[x]
    transposed = draw.random() < 0.3
    alone = groups == 1
    enlarged = not transposed and alone and len(size) == 2 and draw.random() < 0.3
    shuffle = 2 if not transposed and alone and len(size) == 2 and draw.random() < 0.3 else 1
    kernel = [draw.randint(1, 4) for _ in size]
    strides = [draw.randint(1, 2) for _ in size]
    dilations = [draw.randint(1, 2) for _ in size]
    mode = draw.choice([None, None, "reflect", "edge"]) if not transposed else None
    pads = [min(draw.randint(0, 2), s - 1) for s in size]
    read = [s * (1 + enlarged) for s in size]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    if transposed:
        pads = [min(p, r - 1) // 2 for p, r in zip(pads, reach, strict=True)]
        after = [
            (s - 1) * step - 2 * p + r
            for s, step, p, r in zip(size, strides, pads, reach, strict=True)
        ]
    else:
        pads = [max(p, -(-(r - s) // 2)) for p, r, s in zip(pads, reach, read, strict=True)]
        if mode == "reflect" and any(p >= s for p, s in zip(pads, read, strict=True)):
            mode = None
        after = [
            (s + 2 * p - r) // step + 1
            for s, p, r, step in zip(read, pads, reach, strides, strict=True)
        ]
    products = out * shuffle ** len(size)
    pair = (c, out // groups) if transposed else (products, c // groups)
    given: dict[str, Any] = {"strides": strides, "pads": pads * 2, "dilations": dilations}
    given["group"] = groups
    if transposed:
        given["output_padding"] = [0] * len(size)
    if mode:
        given["pad_mode"] = mode
    if enlarged:
        given["upsample"] = 1
    if shuffle > 1:
        given |= {"shuffle": shuffle, "shuffle_mode": draw.choice(["CRD", "DCR"])}
    shape = (n, out, *(a * shuffle for a in after))
    names = [x, net.weight(*pair, *kernel, scale=(c * 3) ** -0.5), "", "", "", ""]
    if draw.random() < 0.7:
        names[2] = net.weight(products)
    kind = draw.choice(["none", "none", "full", "map"])
    if kind != "none" and not (kind == "map" and len(size) == 1):
        names[3] = net.weight(*(shape if kind == "full" else (n, 1, *shape[2:])))
    if len(size) == 2 and shuffle == 1 and not enlarged and draw.random() < 0.4:
        names[4] = net.weight(draw.choice([1, n]), c, 1, 1)
        names[5] = net.weight(draw.choice([1, n]), out, 1, 1)
    given["epilogue"] = epilogue_of(draw, out, bool(names[2]), bool(names[3]))
    while not names[-1]:
        names.pop()
    return net.add("fastgan.ConvTranspose" if transposed else "fastgan.Conv", names, shape, **given)
