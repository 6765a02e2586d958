"""Any chain of elementwise operations as one launch.

A chain is a running value and steps: each an operation on the value and perhaps an operand, which
is a number, one of the tensors, or a value that an earlier step kept. The tensors broadcast to the
result's [N, C, H, W] and may have any strides. The chain is known when the kernel is compiled, so
every chain becomes a kernel of its own; sizes and strides are not, so that a folder of photographs
of as many sizes takes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ..epilogue import ACTIVATIONS, PLAIN, activate, finish
from ..types import INTERPRETED, Call, Config, Prepared, ceil_div

# Activations of the epilogue, but for those that have an operand here.
UNARY = tuple(n for n in ACTIVATIONS if n not in ("none", "prelu", "leaky_relu", "elu"))
UNARY += ("exp", "log", "sqrt", "reciprocal", "neg", "abs", "square", "erf", "sin", "cos")
BINARY = ("load", "add", "sub", "rsub", "mul", "div", "rdiv", "minimum", "maximum", "leaky_relu")
BINARY += ("elu",)
MOST_TENSORS = 6
MOST_KEPT = 4

# Stands for a stride that is known at run time.
GIVEN = -1

# Up to so many elements, and a program's more, places have 32 bits.
MOST_NARROW = (1 << 31) - (1 << 16)


@dataclass(frozen=True)
class Step:
    """One operation on the running value.

    The operand is tensor number `tensor` if that is not negative, else the value in place `kept` if
    that is not negative, else `number`. "load" takes the operand as the value. rsub and rdiv have
    the operand first. leaky_relu's operand is its slope (with a tensor: PReLU), elu's its alpha.
    `keep`: the place, if not negative, in which the result is kept for later steps.
    """

    operation: str
    number: float = 0.0
    tensor: int = -1
    kept: int = -1
    keep: int = -1

    def __post_init__(self) -> None:
        if self.operation not in UNARY + BINARY:
            raise ValueError(f"operation: found {self.operation!r}, needed one of {UNARY + BINARY}")
        if max(self.kept, self.keep) >= MOST_KEPT:
            raise ValueError(f"keep: found {max(self.kept, self.keep)}, needed below {MOST_KEPT}")


@triton.jit
def apply_step(value, operand, OPERATION: tl.constexpr):
    """One step on float32 values."""
    if OPERATION == "load":
        value = operand
    elif OPERATION == "add":
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
    elif OPERATION == "elu":
        value = tl.where(value < 0, operand * (tl.exp(tl.where(value < 0, value, 0.0)) - 1), value)
    elif OPERATION == "exp":
        value = tl.exp(value)
    elif OPERATION == "log":
        value = tl.log(value)
    elif OPERATION == "sqrt":
        value = tl.sqrt_rn(value)
    elif OPERATION == "reciprocal":
        value = 1.0 / value
    elif OPERATION == "neg":
        value = -value
    elif OPERATION == "abs":
        value = tl.abs(value)
    elif OPERATION == "square":
        value = value * value
    elif OPERATION == "erf":
        value = tl.erf(value)
    elif OPERATION == "sin":
        value = tl.sin(value)
    elif OPERATION == "cos":
        value = tl.cos(value)
    else:
        value = activate(value, OPERATION, 0.0)
    return value


class Chain(NamedTuple):
    """`chain`: the steps, each a place in these, and how the tensors lie."""

    channels: int
    wide: bool  # places need 64 bits
    flat: tuple[bool, ...]  # of each tensor: whether its elements are in the order of the result's
    strides: tuple[int, ...]  # of each tensor, four: 0 or 1, or GIVEN, which `size` has
    steps: int
    operations: tuple[str, ...]
    numbers: tuple[float, ...]
    tensors: tuple[int, ...]
    kept: tuple[int, ...]
    keep: tuple[int, ...]


class Size(NamedTuple):
    """`size`: what may differ from launch to launch of one chain."""

    elements: int
    height: int
    width: int
    strides: tuple[int, ...]  # of each tensor, four


@triton.jit
def along(index, tensor: tl.constexpr, AXIS: tl.constexpr, size, chain: tl.constexpr):
    """Elements from the first one of an axis to those of an index."""
    if chain.strides[4 * tensor + AXIS] == 0:
        place = index * 0
    elif chain.strides[4 * tensor + AXIS] == 1:
        place = index
    else:
        place = index * size.strides[4 * tensor + AXIS]
    return place


@triton.jit
def pointwise_kernel(
    tensors,  # each broadcasts to [N, CHANNELS, height, width] with its strides
    size,  # Size
    to,  # Output: [N, CHANNELS, height, width] as end.out_format says, without bias or residual
    chain: tl.constexpr,  # Chain
    end: tl.constexpr,  # End
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    CHANNELS: tl.constexpr = chain.channels
    STEPS: tl.constexpr = chain.steps
    program = tl.program_id(0)
    if chain.wide:
        program = program.to(tl.int64)
    row = program * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    element = row[:, None] * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
    mask = element < size.elements
    channel = element % CHANNELS
    pixel = element // CHANNELS
    in_w = pixel % size.width
    in_h = pixel // size.width % size.height
    image = pixel // (size.width * size.height)
    value = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    kept_0 = value
    kept_1 = value
    kept_2 = value
    kept_3 = value
    for step in tl.static_range(STEPS):
        if chain.tensors[step] >= 0:
            pointer = tensors[chain.tensors[step]]
            if chain.flat[chain.tensors[step]]:
                place = element
            else:
                place = along(image, chain.tensors[step], 0, size, chain)
                place += along(channel, chain.tensors[step], 1, size, chain)
                place += along(in_h, chain.tensors[step], 2, size, chain)
                place += along(in_w, chain.tensors[step], 3, size, chain)
            operand = tl.load(pointer + place, mask=mask, other=0.0).to(tl.float32)
        elif chain.kept[step] == 0:
            operand = kept_0
        elif chain.kept[step] == 1:
            operand = kept_1
        elif chain.kept[step] == 2:
            operand = kept_2
        elif chain.kept[step] == 3:
            operand = kept_3
        else:
            operand = tl.full((BLOCK_ROWS, BLOCK_COLUMNS), chain.numbers[step], tl.float32)
        # Triton 3.6 takes an element of a tuple out of its constexpr.
        value = apply_step(value, operand, tl.constexpr(chain.operations[step]))
        if chain.keep[step] == 0:
            kept_0 = value
        elif chain.keep[step] == 1:
            kept_1 = value
        elif chain.keep[step] == 2:
            kept_2 = value
        elif chain.keep[step] == 3:
            kept_3 = value
    if end.out_format == "float32_nchw":
        offset = ((image * CHANNELS + channel) * size.height + in_h) * size.width + in_w
    elif end.out_pitch == CHANNELS:
        offset = element
    else:
        offset = pixel * end.out_pitch + channel
    finish(tl.where(mask, value, 0.0), channel, mask, offset, offset, mask, to, end)


def reach(tensor: torch.Tensor) -> int:
    """How far the last element of a tensor is from its first."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return sum((size - 1) * abs(stride) for size, stride in sizes)


def configs() -> tuple[Config, ...]:
    """About 2,048 elements per program: several 16-byte loads in flight in each thread."""
    return tuple(Config(n // 64, 64, 1) for n in ((16384,) if INTERPRETED else (2048, 4096)))


def prepare(
    tensors: Sequence[torch.Tensor],
    steps: Sequence[Step],
    *,
    out: torch.Tensor | None = None,
    flag: torch.Tensor | None = None,
    config: Config | None = None,
    out_format: str = "nhwc",
    low: float = -1.0,
    high: float = 1.0,
) -> Prepared:
    """See launch."""
    if not 0 < len(tensors) <= MOST_TENSORS or any(s.tensor >= len(tensors) for s in steps):
        raise ValueError(f"tensors: found {len(tensors)}, needed 1 to {MOST_TENSORS}, all there")
    try:
        n, c, h, w = shape = tuple(torch.broadcast_shapes(*[t.shape for t in tensors]))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"tensors: found {[tuple(t.shape) for t in tensors]}, {error}") from None
    epilogue = type(PLAIN)(out_format=out_format, low=low, high=high)
    out = epilogue.output(tensors[0], (n, c, h, w), out)
    config = config or configs()[0]
    flat, strides = [], []
    for tensor in tensors:
        dense = tensor.permute(0, 2, 3, 1).is_contiguous()
        flat.append(dense and tuple(tensor.shape) == shape)
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        strides += [0 if size == 1 else stride for size, stride in sizes]
    elements = n * c * h * w
    arguments: dict[str, Any] = {
        "tensors": tuple(tensors),
        "size": Size(elements, h, w, tuple(strides)),
        "chain": Chain(
            channels=c,
            wide=max(elements, *map(reach, [*tensors, out])) > MOST_NARROW,
            flat=tuple(flat),
            strides=tuple(stride if stride in (0, 1) else GIVEN for stride in strides),
            steps=len(steps),
            operations=tuple(step.operation for step in steps),
            numbers=tuple(float(step.number) for step in steps),
            tensors=tuple(step.tensor for step in steps),
            kept=tuple(step.kept for step in steps),
            keep=tuple(step.keep for step in steps),
        ),
        "BLOCK_ROWS": config.block_m,
        "BLOCK_COLUMNS": config.block_n,
        **epilogue.arguments(out, flag=flag),
    }
    grid = (ceil_div(elements, config.block_m * config.block_n),)
    return Prepared(out, (Call(pointwise_kernel, grid, arguments, config),))


def launch(tensors: Sequence[torch.Tensor], steps: Sequence[Step], **options: Any) -> torch.Tensor:
    """The chain of steps, computed in float32, to the shape that the tensors broadcast to.

    tensors: one to MOST_TENSORS of four axes and any strides; the result has the first one's dtype
    and lies with channels last. The value starts as zero, so the first step is a "load". Options:
    out (may be one of the tensors), flag, config, out_format, low and high of `epilogue.Epilogue`.
    """
    return prepare(tensors, steps, **options).run()
