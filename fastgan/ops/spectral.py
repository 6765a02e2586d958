"""Fourier transforms: ONNX DFT, which inpainting networks with Fourier convolutions need.

https://onnx.ai/onnx/operators/onnx__DFT.html
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.infer import axis_of, meta
from fastgan.ops.registry import register

#: Attributes of both versions.
_HOW = ("inverse", "onesided")


def _geometry(
    x: Tensor, length: int | None, axis: int, inverse: int = 0, onesided: int = 0
) -> tuple[int, int, list[int]]:
    """The axis from 0 on, the length of the transform, and the shape of its result."""
    axis = axis_of(axis, x.dim())
    if axis == x.dim() - 1 or x.shape[-1] not in (1, 2):
        raise ValueError(f"axis {axis} of {tuple(x.shape)}, whose last axis is real and imaginary")
    if onesided and not inverse and x.shape[-1] != 1:
        raise ValueError("one side of the spectrum of complex numbers")
    if length is None:
        length = 2 * (x.shape[axis] - 1) if onesided and inverse else x.shape[axis]
    if length < 1:
        raise ValueError(f"a transform of length {length}")
    shape = [*x.shape[:-1], 1 if onesided and inverse else 2]
    shape[axis] = length // 2 + 1 if onesided and not inverse else length
    return axis, length, shape


def _shape(x: Tensor, length: int | None = None, axis: int | None = None, **how: int) -> Tensor:
    return meta(_geometry(x, length, -2 if axis is None else axis, **how)[2], x.dtype)


def _transform(
    x: Tensor, length: int | None, axis: int, inverse: int = 0, onesided: int = 0
) -> Tensor:
    axis, length, _ = _geometry(x, length, axis, inverse, onesided)
    dtype = x.dtype
    x = x.to(torch.promote_types(dtype, torch.float32))  # torch has no transform of 16 bits
    real = x.shape[-1] == 1
    values = x[..., 0] if real else torch.view_as_complex(x.contiguous())
    if onesided and inverse:
        return torch.fft.irfft(values, length, axis)[..., None].to(dtype)
    if onesided:
        made = torch.fft.rfft(values, length, axis)
    else:
        made = (torch.fft.ifft if inverse else torch.fft.fft)(values, length, axis)
    return torch.view_as_real(made).to(dtype)


def _shape_17(x: Tensor, length: int | None = None, *, axis: int = 1, **attributes: Any) -> Tensor:
    return _shape(x, length, axis, **attributes)


@register("DFT", since=17, host=(1,), infer=_shape_17, also=_HOW)
def dft_axis_attribute(
    x: Tensor, length: int | None = None, *, axis: int = 1, **how: int
) -> Tensor:
    """As `dft`, with the axis as an attribute."""
    return _transform(x, length, axis, **how)


@register("DFT", since=20, host=(1, 2), infer=_shape, also=_HOW)
def dft(x: Tensor, length: int | None = None, axis: int | None = None, **how: int) -> Tensor:
    """The discrete Fourier transform along an axis of [..., 1] real or [..., 2] complex numbers.

    Args:
        length: of the transform; the axis is cut or filled up with zeros to it.
        how: inverse; onesided: of real numbers, the first half of the spectrum; back, real numbers
            from it.
    """
    return _transform(x, length, -2 if axis is None else axis, **how)
