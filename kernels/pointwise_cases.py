"""The row of `pointwise` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .epilogue import PLAIN, Epilogue
from .pointwise import BINARY, MOST_TENSORS, Step, configs, launch, prepare
from .types import DTYPES, Inputs, Kernel


@dataclass(frozen=True)
class Case:
    batch: int
    rest: tuple[int, ...]  # the shape after the batch
    steps: tuple[Step, ...]
    tensors: tuple[bool, ...] = ()  # whether each is per channel
    channels_last: bool = True
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch, *self.rest)

    @property
    def label(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{size}, {' '.join(step.operation for step in self.steps)}"


def accepts(case: Case) -> str | None:
    """None, or why the case is for the library op."""
    if case.dtype not in DTYPES:
        return f"dtype {case.dtype}: needs one of {DTYPES}"
    if len(case.tensors) > MOST_TENSORS:
        return f"{len(case.tensors)} operand tensors: needs {MOST_TENSORS} at most"
    return None


def reference(
    x: torch.Tensor, steps: Sequence[Step], tensors: Sequence[torch.Tensor], case: Case
) -> torch.Tensor:
    """The chain in float64."""
    value = x.double()
    view = (1, -1) + (1,) * (x.dim() - 2)
    operands = [t.double() if t.shape == x.shape else t.double().view(view) for t in tensors]
    for step in steps:
        operand = operands[step.tensor] if step.tensor >= 0 else torch.tensor(step.number).double()
        operand = operand.to(value.device)
        match step.operation:
            case "rsub":
                value = operand - value
            case "rdiv":
                value = operand / value
            case "leaky_relu":
                value = torch.where(value < 0, value * operand, value)
            case "silu":
                value = value * value.sigmoid()
            case name if name in BINARY:
                value = getattr(torch, name)(value, operand)
            case name:
                value = getattr(torch, name)(value)
    return value.to(case.dtype)


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""

    def normal(*shape: int) -> torch.Tensor:
        x = torch.randn(shape, generator=generator, device=device).to(case.dtype)
        last = case.channels_last and len(shape) == 4
        return x.contiguous(memory_format=torch.channels_last) if last else x

    tensors = [normal(case.shape[1]) if vector else normal(*case.shape) for vector in case.tensors]
    arguments = {"x": normal(*case.shape), "steps": case.steps, "tensors": tensors}
    return Inputs(arguments, {**arguments, "case": case})


HALF, BRAIN = torch.float16, torch.bfloat16
SCALE_SHIFT = (Step("mul", tensor=0), Step("add", tensor=1))

MAIN_CASES = (
    Case(
        8,
        (256, 64, 64),
        (*SCALE_SHIFT, Step("relu"), Step("add", tensor=2)),
        (True, True, False),
        dtype=HALF,
    ),
)
CASES = (
    Case(2, (5, 7, 3), (*SCALE_SHIFT, Step("leaky_relu", 0.2)), (True, False)),
    Case(2, (5, 7, 3), (Step("leaky_relu", tensor=0), Step("tanh")), (True,), channels_last=False),
    Case(3, (50,), (Step("mul", 0.5), Step("silu"), Step("rsub", 1.0)), dtype=HALF),
    Case(
        1, (8, 4, 4), (Step("abs"), Step("add", 1.0), Step("sqrt"), Step("rdiv", 2.0)), dtype=BRAIN
    ),
    Case(17, (), (Step("minimum", 0.5), Step("maximum", -0.5), Step("square"), Step("neg"))),
    Case(2, (4, 9), (Step("abs"), Step("add", 0.5), Step("log"), Step("exp"), Step("sigmoid"))),
    Case(
        1, (3, 5, 5), (Step("div", 2.0), Step("sub", tensor=0), Step("relu")), (False,), dtype=HALF
    ),
)

KERNEL = Kernel(
    name="pointwise",
    accepts=accepts,
    prepare=prepare,
    launch=launch,
    reference=reference,
    inputs=inputs,
    cases=CASES,
    configs=lambda case, capability: configs(),
    main_cases=MAIN_CASES,
    multiplies=False,
)
