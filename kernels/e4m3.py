"""Eight-bit floating point, e4m3 (torch.float8_e4m3fn, Triton's float8e4nv): 4 bits of exponent, 3
of mantissa (Micikevicius et al. 2022, "FP8 Formats for Deep Learning").

The largest value is 448, the smallest 2**-9; there is a NaN, but no infinity. So a tensor is stored
with a scale. Weights have one per output channel; what a layer writes has one for all of it, which
`Epilogue.high` says: the value that is stored as 448. A layer that reads it takes `x_scale`, what a
stored 1 stands for, and multiplies its sums by both.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .modulation import UNMODULATED, Modulation
from .types import IS_INTERPRETED

# What a stored 1 of the input stands for, in the cases of the kernels' table.
CASE_SCALE = 0.07

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0


def needed_by(case: Any) -> bool:
    """Whether a case of the kernels' table multiplies or writes in e4m3."""
    writes = getattr(getattr(case, "epilogue", None), "out_format", "")
    return bool(case.dtype == E4M3 or writes == "e4m3_nhwc")


def exists_on(capability: tuple[int, int]) -> bool:
    """Whether a GPU of this compute capability has it; (0, 0) stands for the interpreter."""
    return capability == (0, 0) or capability >= (8, 9)


def stored(dtype: torch.dtype) -> torch.dtype:
    """The type of a result in the type of its factors: e4m3 has to be asked for."""
    return torch.float16 if dtype == E4M3 else dtype


def quantise(weight: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """weight as e4m3 of the same shape, and the float32 scale of each channel of `axis`.

    weight is about codes * scale. The largest weight of a channel is stored as 448.
    """
    over = [i for i in range(weight.dim()) if i != axis]
    scale = weight.float().abs().amax(dim=over, keepdim=True) / LARGEST
    scale = torch.where(scale > 0, scale, 1.0)
    codes = (weight.float() / scale).clamp(-LARGEST, LARGEST).to(E4M3)
    return codes, scale.flatten()


def as_codes(x: torch.Tensor, high: float) -> torch.Tensor:
    """x as it is stored, `high` as 448."""
    return (x.float() * (LARGEST / high)).clamp(-LARGEST, LARGEST).to(E4M3)


def values_of(codes: torch.Tensor, high: float) -> torch.Tensor:
    """What is stored, in float32."""
    return codes.float() * (high / LARGEST)


def rounded(weight: torch.Tensor, axis: int, dtype: torch.dtype) -> torch.Tensor:
    """weight as a product in this dtype multiplies it, `axis` being its output channels."""
    if dtype != E4M3:
        return weight.to(dtype)
    codes, scale = quantise(weight, axis)
    return codes.float() * scale.view([-1 if i == axis else 1 for i in range(weight.dim())])


def dequantising(
    modulation: Modulation, channel_scale: torch.Tensor | None, x_scale: float
) -> Modulation:
    """What a product of these weights is modulated by: with e4m3 its sums take the scales."""
    if channel_scale is None:
        return modulation
    if modulation != UNMODULATED:
        raise ValueError("modulation: found one of e4m3 weights, needed none")
    return Modulation(scale_out=(channel_scale * x_scale)[None])


@triton.jit
def to_e4m3(x, high):
    """float32 values -> e4m3, `high` as 448: saturated, but infinity becomes NaN as NaN does."""
    x = x * tl.div_rn(448.0, high)
    # A zero, or NaN: so that what is not finite is found at the end, as it is in 16 bits.
    lost = x * 0.0
    x = tl.minimum(tl.maximum(x, -448.0), 448.0) + lost
    if IS_INTERPRETED:
        # The interpreter's own conversion does not round, and knows no NaN.
        bits = x.to(tl.uint32, bitcast=True)
        size = bits & 0x7FFFFFFF
        rounded = (size + 0x7FFFF + ((size >> 20) & 1)) >> 20
        # 1.5 * 2**23: at this size float32 holds whole numbers only: multiples of 2**-9, to even.
        small = ((tl.abs(x) * 512.0 + 12582912.0) - 12582912.0).to(tl.uint32)
        code = tl.where(size < 0x3C800000, small, rounded - 960)  # below 2**-6: no exponent
        code = tl.where(x == x, code, 0x7F)
        return (code | ((bits >> 24) & 0x80)).to(tl.uint8).to(tl.float8e4nv, bitcast=True)
    return x.to(tl.float8e4nv)


@triton.jit
def as_factor(a):
    """A block as `tl.dot` takes it. The interpreter multiplies bfloat16 as integers, and reads
    e4m3's NaN as 480: there they become float32, exactly."""
    if IS_INTERPRETED and a.dtype == tl.bfloat16:
        a = a.to(tl.float32)
    elif IS_INTERPRETED and a.dtype == tl.float8e4nv:
        code = a.to(tl.uint8, bitcast=True).to(tl.uint32)
        size = code & 0x7F
        value = ((size << 20) + 0x3C000000).to(tl.float32, bitcast=True)
        value = tl.where(size < 8, size.to(tl.float32) * 0.001953125, value)
        value = tl.where(size == 0x7F, float("nan"), value)
        a = tl.where(code > 0x7F, -value, value)
    return a
