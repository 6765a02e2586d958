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

from .epilogue import activate, finish
from .types import INTERPRETED, Call, Config, Prepared, ceil_div

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
        tl.where(mask, value, 0.0),
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
