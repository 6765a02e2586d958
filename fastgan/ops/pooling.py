"""Pooling: windows that slide over the spatial axes, and their global kin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.convolution import conv_pads
from fastgan.ops.infer import meta
from fastgan.ops.registry import register

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True, slots=True)
class _Geometry:
    """Where the windows lie; one entry for each spatial axis.

    Attributes:
        ends: pads behind, as the node asks; `reach` is how far the windows really go.
        output: how many windows.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    ends: list[int]
    output: list[int]
    ceil_mode: int = 0

    @property
    def taps(self) -> tuple[int, ...]:
        """The axes of the windows' own elements in `_windows`."""
        rank = len(self.kernel)
        return tuple(range(2 + rank, 2 + 2 * rank))

    def reach(self, axis: int, size: int) -> int:
        """The pad behind that makes every window fit; it may be negative."""
        spread = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        return (self.output[axis] - 1) * self.strides[axis] + spread - size - self.begins[axis]


#: The attributes that `_geometry` takes.
_WINDOWS = ("kernel_shape", "auto_pad", "ceil_mode", "dilations", "pads", "strides")


def _geometry(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    **_: Any,
) -> _Geometry:
    rank = x.dim() - 2
    kernel, size = list(kernel_shape), x.shape[2:]
    step, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    explicit = conv_pads(auto_pad, pads, size, kernel, step, spread)
    begins, ends = explicit[:rank], explicit[rank:]
    output = []
    for i in range(rank):
        padded = size[i] + begins[i] + ends[i]
        last = padded - spread[i] * (kernel[i] - 1) - 1
        count = last // step[i] + 1
        if ceil_mode and last % step[i] and count * step[i] < size[i] + begins[i]:
            count += 1  # a window that starts inside x, or in the pad before it
        if count < 1:
            raise ValueError(f"a window of {kernel[i]} on {padded} elements")
        output.append(count)
    return _Geometry(kernel, step, spread, begins, ends, output, ceil_mode)


def _windows(x: Tensor, at: _Geometry, fill: float) -> Tensor:
    """x [N, C, *size] -> [N, C, *output, *kernel], with `fill` outside of x."""
    pairs: list[int] = []
    for axis in reversed(range(len(at.kernel))):
        pairs += [at.begins[axis], at.reach(axis, x.shape[2 + axis])]
    x = F.pad(x, pairs, value=fill).contiguous()
    steps = list(x.stride())
    moves = [s * stride for s, stride in zip(steps[2:], at.strides, strict=True)]
    taps = [s * dilation for s, dilation in zip(steps[2:], at.dilations, strict=True)]
    shape = (*x.shape[:2], *at.output, *at.kernel)
    return x.as_strided(shape, (*steps[:2], *moves, *taps))


def _pooled(x: Tensor, *, num_outputs: int = 1, **attributes: Any) -> Any:
    shape = (*x.shape[:2], *_geometry(x, **attributes).output)
    y = meta(shape, x.dtype)
    return y if num_outputs == 1 else (y, meta(shape, torch.int64))


def _fits_torch(x: Tensor, at: _Geometry) -> bool:
    """Whether torch's own pooling does the same: it pads both sides alike, by half a window."""
    return (
        at.begins == at.ends
        and not at.ceil_mode
        and len(at.kernel) in _MAX_POOL
        and x.is_floating_point()
        and all(2 * begin <= kernel for begin, kernel in zip(at.begins, at.kernel, strict=True))
    )


def _lowest(dtype: torch.dtype) -> float:
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


@register("MaxPool", since=1, infer=_pooled, also=_WINDOWS)
def max_pool(
    x: Tensor, *, storage_order: int = 0, num_outputs: int = 1, **windows: Any
) -> Tensor | tuple[Tensor, Tensor]:
    """x [N, C, *size] -> [N, C, *output], and where each maximum lies in the flattened x."""
    at = _geometry(x, **windows)
    if num_outputs == 1 and _fits_torch(x, at):
        return _MAX_POOL[len(at.kernel)](x, at.kernel, at.strides, at.begins, at.dilations)
    values = _windows(x, at, _lowest(x.dtype))
    if num_outputs == 1:
        return values.amax(at.taps)
    y, best = values.flatten(2 + len(at.kernel)).max(-1)
    places = torch.arange(x[0, 0].numel(), device=x.device)
    size = list(x.shape[2:])
    if storage_order:  # column-major: the first spatial axis runs fastest
        places = places.reshape(size[::-1]).permute(*reversed(range(len(size))))
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * places.numel()
    where = places.reshape(size) + planes.reshape(*x.shape[:2], *[1] * len(size))
    found = _windows(where, at, -1).flatten(2 + len(at.kernel))
    return y, found.gather(-1, best.unsqueeze(-1)).squeeze(-1)


@register("AveragePool", since=1, infer=_pooled, also=_WINDOWS)
def average_pool(x: Tensor, *, count_include_pad: int = 0, **windows: Any) -> Tensor:
    at = _geometry(x, **windows)
    rank = len(at.kernel)
    if _fits_torch(x, at) and max(at.dilations) == 1:
        include = bool(count_include_pad)
        return _AVERAGE_POOL[rank](x, at.kernel, at.strides, at.begins, False, include)
    # What counts: the elements of x, and the pads if asked, but never what ceil_mode adds.
    ones = x.new_ones((1, 1, *x.shape[2:]))
    if count_include_pad:
        pairs = [p for b, e in reversed(list(zip(at.begins, at.ends, strict=True))) for p in (b, e)]
        ones = F.pad(ones, pairs, value=1.0)
        counted = _windows(ones, _unpadded(at), 0)
    else:
        counted = _windows(ones, at, 0)
    return _windows(x, at, 0).sum(at.taps) / counted.sum(at.taps)


def _unpadded(at: _Geometry) -> _Geometry:
    """The same windows on an input that is padded already."""
    zeros = [0] * len(at.kernel)
    return _Geometry(at.kernel, at.strides, at.dilations, zeros, zeros, at.output)


@register("LpPool", since=2, infer=_pooled, also=_WINDOWS)
def lp_pool(x: Tensor, *, p: int = 2, **windows: Any) -> Tensor:
    at = _geometry(x, **windows)
    return torch.linalg.vector_norm(_windows(x, at, 0), ord=p, dim=at.taps)


def _pooled_globally(x: Tensor, **_: Any) -> Tensor:
    return meta((*x.shape[:2], *[1] * (x.dim() - 2)), x.dtype)


def _spatial(x: Tensor) -> tuple[int, ...]:
    if x.dim() < 3:
        raise ValueError(f"rank {x.dim()}: there are no spatial axes")
    return tuple(range(2, x.dim()))


@register("GlobalAveragePool", since=1, infer=_pooled_globally)
def global_average_pool(x: Tensor) -> Tensor:
    return x.mean(_spatial(x), keepdim=True)


@register("GlobalMaxPool", since=1, infer=_pooled_globally)
def global_max_pool(x: Tensor) -> Tensor:
    return x.amax(_spatial(x), keepdim=True)


@register("GlobalLpPool", since=2, infer=_pooled_globally)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    return torch.linalg.vector_norm(x, ord=p, dim=_spatial(x), keepdim=True)


def _unpooled(
    x: Tensor,
    indices: Tensor,
    output_shape: list[int] | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    if output_shape is not None:
        return meta(output_shape, x.dtype)
    rank = len(kernel_shape)
    step, edges = strides or [1] * rank, pads or [0] * 2 * rank
    sizes = [
        (x.shape[2 + i] - 1) * step[i] + kernel_shape[i] - edges[i] - edges[rank + i]
        for i in range(rank)
    ]
    return meta((*x.shape[:2], *sizes), x.dtype)


@register(
    "MaxUnpool", since=9, host=(2,), infer=_unpooled, also=("kernel_shape", "pads", "strides")
)
def max_unpool(
    x: Tensor, indices: Tensor, output_shape: list[int] | None = None, **windows: Any
) -> Tensor:
    """Zeros, with x where `indices` say, as places in the flattened output without output_shape."""
    natural = _unpooled(x, indices, **windows).shape
    y = x.new_zeros(natural).reshape(-1)
    y = y.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(natural)
    if output_shape is None:
        return y
    pairs: list[int] = []
    for have, want in reversed(list(zip(natural, output_shape, strict=True))):
        pairs += [0, want - have]
    return F.pad(y, pairs)
