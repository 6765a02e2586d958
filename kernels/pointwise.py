"""Any chain of elementwise operations as one launch.

A chain is a running value, which starts as x, and steps: each an operation on the value and perhaps
an operand, which is a number, a tensor of x's shape, or a vector with one element per channel. The
chain is known when the kernel is compiled, so every chain becomes a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from .epilogue import PLAIN, Epilogue, activate, finish
from .types import DTYPES, INTERPRETED, Call, Config, Inputs, Kernel, Prepared, ceil_div

UNARY = ("relu", "tanh", "sigmoid", "silu", "exp", "log", "sqrt", "neg", "abs", "square")
BINARY = ("add", "sub", "rsub", "mul", "div", "rdiv", "minimum", "maximum", "leaky_relu")
MOST_TENSORS = 3


@dataclass(frozen=True)
class Step:
    """One operation on the running value; `tensor` is an index into the operands, or -1: `number`.

    rsub and rdiv have the operand first. leaky_relu's operand is its slope, a number or (as PReLU)
    a tensor.
    """

    operation: str
    number: float = 0.0
    tensor: int = -1

    def __post_init__(self) -> None:
        if self.operation not in UNARY + BINARY:
            raise ValueError(f"operation: found {self.operation!r}, needed one of {UNARY + BINARY}")


@triton.jit
def apply_step(value, operand, OPERATION: tl.constexpr):
    """One step on float32 values."""
    if OPERATION == "add":
        value = value + operand
    elif OPERATION == "sub":
        value = value - operand
    elif OPERATION == "rsub":
        value = operand - value
    elif OPERATION == "mul":
        value = value * operand
    elif OPERATION == "div":
        value = value / operand
    elif OPERATION == "rdiv":
        value = operand / value
    elif OPERATION == "minimum":
        # Unlike the hardware's own, these keep a NaN of either side.
        value = tl.where((value < operand) | (value != value), value, operand)
    elif OPERATION == "maximum":
        value = tl.where((value > operand) | (value != value), value, operand)
    elif OPERATION == "leaky_relu":
        value = tl.where(value < 0, value * operand, value)
    elif OPERATION == "silu":
        value = value * activate(value, "sigmoid", 0.0)
    elif OPERATION == "exp":
        value = tl.exp(value)
    elif OPERATION == "log":
        value = tl.log(value)
    elif OPERATION == "sqrt":
        value = tl.sqrt_rn(value)
    elif OPERATION == "neg":
        value = -value
    elif OPERATION == "abs":
        value = tl.abs(value)
    elif OPERATION == "square":
        value = value * value
    else:
        value = activate(value, OPERATION, 0.0)
    return value


@triton.jit
def pointwise_kernel(
    x,  # [elements], in any order that all tensors share
    tensor_0,  # [elements], or [CHANNELS] where PER_CHANNEL says so
    tensor_1,
    tensor_2,
    out,  # [elements]
    flag,  # [1] int32
    elements,
    after_channel,  # elements from one channel to the next: 1 with channels last
    CHANNELS: tl.constexpr,
    PER_CHANNEL: tl.constexpr,  # of each tensor
    STEPS: tl.constexpr,
    OPERATIONS: tl.constexpr,
    NUMBERS: tl.constexpr,
    TENSORS: tl.constexpr,
    HAS_FLAG: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    offset = row[:, None] * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
    mask = offset < elements
    channel = offset // after_channel % CHANNELS
    value = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32)
    for step in tl.static_range(STEPS):
        if TENSORS[step] < 0:
            operand = NUMBERS[step]
        else:
            if TENSORS[step] == 0:
                pointer = tensor_0
            elif TENSORS[step] == 1:
                pointer = tensor_1
            else:
                pointer = tensor_2
            if PER_CHANNEL[TENSORS[step]]:
                operand = tl.load(pointer + channel, mask=mask, other=0.0).to(tl.float32)
            else:
                operand = tl.load(pointer + offset, mask=mask, other=0.0).to(tl.float32)
        value = apply_step(value, operand, OPERATIONS[step])
    finish(
        value,
        channel,
        mask,
        offset,
        mask,
        out,
        x,
        x,
        flag,
        0.0,
        1.0,
        False,
        "none",
        HAS_FLAG,
        "none",
        0.0,
        "nhwc",
        INTERPRETED,
    )


def configs() -> tuple[Config, ...]:
    """About 2,048 elements per program: several 16-byte loads in flight in each thread."""
    return tuple(Config(n // 64, 64, 1) for n in ((16384,) if INTERPRETED else (2048, 4096)))


def prepare(
    x: torch.Tensor,
    steps: Sequence[Step],
    tensors: Sequence[torch.Tensor] = (),
    *,
    out: torch.Tensor | None = None,
    flag: torch.Tensor | None = None,
    config: Config | None = None,
) -> Prepared:
    """See launch."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if not (channels_last or x.is_contiguous()):
        raise ValueError(f"x: found strides {x.stride()}, needed contiguous or channels_last")
    if len(tensors) > MOST_TENSORS or any(step.tensor >= len(tensors) for step in steps):
        raise ValueError(f"tensors: found {len(tensors)}, needed all used, {MOST_TENSORS} at most")
    channels = x.shape[1] if x.dim() > 1 else 1
    for tensor in tensors:
        same = tensor.shape == x.shape and tensor.stride() == x.stride()
        if not same and not (tensor.shape == (channels,) and tensor.is_contiguous()):
            raise ValueError(
                f"tensors: found {tuple(tensor.shape)} with strides {tensor.stride()}, needed "
                f"{tuple(x.shape)} with strides {x.stride()}, or ({channels},)"
            )
    out = torch.empty_like(x) if out is None else out
    if out.shape != x.shape or out.stride() != x.stride():
        raise ValueError(f"out: found strides {out.stride()}, needed {x.stride()} as x has")
    config = config or configs()[0]
    padded = [*tensors, x, x, x][:MOST_TENSORS]
    arguments: dict[str, Any] = {
        "x": x,
        "tensor_0": padded[0],
        "tensor_1": padded[1],
        "tensor_2": padded[2],
        "out": out,
        "flag": x if flag is None else flag,
        "elements": x.numel(),
        "after_channel": 1 if channels_last else max(1, x[0, 0].numel() if x.dim() > 1 else 1),
        "CHANNELS": channels,
        "PER_CHANNEL": tuple(tensor.shape != x.shape for tensor in padded),
        "STEPS": len(steps),
        "OPERATIONS": tuple(step.operation for step in steps),
        "NUMBERS": tuple(float(step.number) for step in steps),
        "TENSORS": tuple(step.tensor for step in steps),
        "HAS_FLAG": flag is not None,
        "INTERPRETED": INTERPRETED,
        "BLOCK_ROWS": config.block_m,
        "BLOCK_COLUMNS": config.block_n,
    }
    grid = (ceil_div(x.numel(), config.block_m * config.block_n),)
    return Prepared(out, (Call(pointwise_kernel, grid, arguments, config),))


def launch(
    x: torch.Tensor, steps: Sequence[Step], tensors: Sequence[torch.Tensor] = (), **options: Any
) -> torch.Tensor:
    """The chain of steps on x, computed in float32, in x's dtype and layout.

    x is contiguous, or [N, C, H, W] with channels last; tensors have x's shape and strides, or are
    [C]. Options: out (like x; may be x itself), flag, config.
    """
    return prepare(x, steps, tensors, **options).run()


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
