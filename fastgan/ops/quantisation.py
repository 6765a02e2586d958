"""Integers that stand for numbers: ONNX QuantizeLinear and its relatives.

q = saturate(round(x / scale) + zero), halves to even, and x = (q - zero) * scale. Scale and zero
are one for all, [C] along `axis`, or for blocks of `block_size` along it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.convolution import CONVOLUTION, conv, conv_shape
from fastgan.ops.elementwise import torch_dtype
from fastgan.ops.infer import axis_of, meta
from fastgan.ops.linear import matmul_shape
from fastgan.ops.registry import register

#: Products and sums of integers up to here are exact in float32.
_EXACT = 1 << 24
_LARGEST = 255 * 255


#: Attributes of both: which axis the scales are along, and of how many elements each is.
_AXIS = ("axis", "block_size")


def _aligned(parameter: Tensor, x: Tensor, axis: int = 1, block_size: int = 0, **_: int) -> Tensor:
    """A scale or zero as it broadcasts to x."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis = axis_of(axis, x.dim())
    if block_size:
        block = min(block_size, x.shape[axis])
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if parameter.dim() != 1 or parameter.shape[0] != x.shape[axis]:
        raise ValueError(f"scales {tuple(parameter.shape)} along axis {axis} of {tuple(x.shape)}")
    return parameter.reshape(-1, *[1] * (x.dim() - axis - 1))


def _check(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int) -> None:
    blocks = list(x.shape)
    if block and scale.dim():
        axis = axis_of(axis, x.dim())
        blocks[axis] = -(-blocks[axis] // block)
        if list(scale.shape) != blocks:
            raise ValueError(f"scales {tuple(scale.shape)} for blocks {blocks}")
    elif scale.numel() != 1:
        _aligned(scale, x, axis, 0)
    if zero is not None and zero.shape != scale.shape and max(zero.numel(), scale.numel()) != 1:
        raise ValueError(f"zeros {tuple(zero.shape)} for scales {tuple(scale.shape)}")


def _quantised_type(zero: Tensor | None, output_dtype: int) -> torch.dtype:
    dtype = torch_dtype(output_dtype) if output_dtype else torch.uint8
    dtype = dtype if zero is None else zero.dtype
    if dtype.is_floating_point or dtype is torch.bool:
        raise ValueError(f"quantised to {dtype}")
    return dtype


def _shaped(
    x: Tensor, scale: Tensor, zero: Tensor | None, *, axis: int = 1, block_size: int = 0, **_: int
) -> torch.Size:
    _check(x, scale, zero, axis, block_size)
    return x.shape


def quantized(x: Tensor, scale: Tensor, zero: Tensor | None = None, **how: int) -> Tensor:
    dtype = _quantised_type(zero, how.get("output_dtype", 0))
    return meta(_shaped(x, scale, zero, **how), dtype)


@register(
    "QuantizeLinear",
    since=10,
    infer=quantized,
    unsigned=True,
    also=(*_AXIS, "saturate", "precision"),
)
def quantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    output_dtype: int = 0,
    **how: int,
) -> Tensor:
    """Computed in float32 at least, whatever the type of x."""
    dtype = _quantised_type(zero, output_dtype)
    wide = torch.promote_types(x.dtype, torch.float32)
    y = x.to(wide) / _aligned(scale, x, **how).to(wide)
    y = y.round_()
    if zero is not None:
        y += _aligned(zero, x, **how).to(wide)
    limits = torch.iinfo(dtype)
    return y.clamp_(limits.min, limits.max).to(dtype)


def dequantized(x: Tensor, scale: Tensor, zero: Tensor | None = None, **how: int) -> Tensor:
    dtype = how.get("output_dtype", 0)
    return meta(_shaped(x, scale, zero, **how), torch_dtype(dtype) if dtype else scale.dtype)


@register("DequantizeLinear", since=10, infer=dequantized, unsigned=True, also=_AXIS)
def dequantize(
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    *,
    output_dtype: int = 0,
    **how: int,
) -> Tensor:
    """The difference is one of integers, its product of the scale's type."""
    whole = x.dtype is torch.int32
    if zero is not None and whole:
        x = x - _aligned(zero, x, **how)
    factor = _aligned(scale, x, **how)
    wide = torch.promote_types(factor.dtype, torch.float32)
    y = x.to(wide)
    if zero is not None and not whole:
        y = y - _aligned(zero, x, **how).to(wide)
    return (y * factor.to(wide)).to(torch_dtype(output_dtype) if output_dtype else scale.dtype)


def _dynamic(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return meta(x.shape, torch.uint8), meta((), x.dtype), meta((), torch.uint8)


@register("DynamicQuantizeLinear", since=11, infer=_dynamic)
def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 by the span of all of x, which holds 0; its scale; its zero."""
    wide = x.float()
    low, high = wide.min().clamp(max=0), wide.max().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).clamp(0, 255).round().to(torch.uint8)
    return quantize(wide, scale, zero), scale.to(x.dtype), zero


# Products of integers -----------------------------------------------------------------------------


def _less(x: Tensor, zero: Tensor | None, axis: int, wide: torch.dtype) -> Tensor:
    x = x.to(wide)
    return x if zero is None else x - _aligned(zero, x, axis, 0).to(wide)


def _wide(terms: int) -> torch.dtype:
    """The type in which a sum of so many products of two bytes is exact."""
    return torch.float32 if terms * _LARGEST < _EXACT else torch.float64


def _to_int32(infer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def shape(a: Tensor, b: Tensor, *zeros: Tensor | None, **attributes: Any) -> Tensor:
        return meta(infer(a, b, **attributes).shape, torch.int32)

    return shape


@register("MatMulInteger", since=10, infer=_to_int32(matmul_shape))
def matmul_integer(
    a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """(a - a_zero) @ (b - b_zero) in int32; zeros of a are of rows, those of b of columns."""
    wide = _wide(a.shape[-1])
    left = _less(a, a_zero, max(-2, -a.dim()), wide)
    return torch.matmul(left, _less(b, b_zero, -1, wide)).round().to(torch.int32)


@register("ConvInteger", since=10, infer=_to_int32(conv_shape), also=CONVOLUTION)
def conv_integer(
    x: Tensor,
    weight: Tensor,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    **how: Any,
) -> Tensor:
    """Conv of x - x_zero, padded with zeros, in int32; zeros of the weight are of its filters."""
    wide = _wide(weight[0].numel())
    product = conv(_less(x, x_zero, 1, wide), _less(weight, w_zero, 0, wide), **how)
    return product.round().to(torch.int32)
