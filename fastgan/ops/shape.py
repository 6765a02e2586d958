"""Shape operators: they move, cut or join elements, and compute nothing on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgan.ops.infer import concatenate, like_first
from fastgan.ops.registry import register


@register("Identity", since=1, infer=like_first)
def identity(x: Tensor) -> Tensor:
    return x


@register("Constant", since=1)
def constant(
    *,
    value: Tensor | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> Tensor:
    if value is not None:
        return value
    if value_float is not None or value_floats is not None:
        number = value_float if value_floats is None else list(value_floats)
        return torch.tensor(number, dtype=torch.float32)
    return torch.tensor(value_int if value_ints is None else list(value_ints), dtype=torch.int64)


@register("ConstantOfShape", since=9, host=(0,))
def constant_of_shape(shape: list[int], *, value: Tensor | None = None) -> Tensor:
    if value is None:
        return torch.zeros(shape)
    return torch.full(shape, value.reshape(()).item(), dtype=value.dtype)


@register("Shape", since=1)
def shape_of(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The dimensions of x as int64, known even where the data are not."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64, device="cpu")


@register("Size", since=1)
def size_of(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64, device="cpu")


@register("Reshape", since=5, host=(1,))
def reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    """A 0 in `shape` copies that dimension of x, unless allowzero is set; -1 is what is left."""
    sizes = [x.shape[i] if s == 0 and not allowzero else s for i, s in enumerate(shape)]
    return x.reshape(sizes)


@register("Flatten", since=1)
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    axis = axis + x.dim() if axis < 0 else axis
    rows = 1
    for extent in x.shape[:axis]:
        rows *= extent
    return x.reshape(rows, -1) if x.numel() else x.reshape(rows, x.numel() // max(rows, 1))


@register("Transpose", since=1)
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(*(perm if perm is not None else reversed(range(x.dim()))))


@register("Concat", since=4, infer=concatenate)
def concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


@register("Squeeze", since=1)
def squeeze_attribute(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


@register("Squeeze", since=13, host=(1,))
def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    return squeeze_attribute(x, axes=axes)


@register("Unsqueeze", since=1)
def unsqueeze_attribute(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@register("Unsqueeze", since=13, host=(1,))
def unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    return unsqueeze_attribute(x, axes=axes)


@register("Expand", since=8, host=(1,))
def expand(x: Tensor, shape: list[int]) -> Tensor:
    """Two-way broadcasting: a 1 in `shape` keeps the dimension of x."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


@register("Gather", since=1)
def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis = axis % x.dim()
    extent = x.shape[axis]
    flat = torch.where(indices < 0, indices + extent, indices).reshape(-1)
    picked = torch.index_select(x, axis, flat)
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _slice(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Tensor:
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis % x.dim()
        # slice.indices clamps as ONNX asks, for either direction.
        first, last, stride = slice(start, end, step).indices(x.shape[axis])
        if step < 0 and end < -x.shape[axis]:
            last = -1
        if step > 0:
            x = x[(slice(None),) * axis + (slice(first, max(first, last), stride),)]
        else:
            picks = torch.arange(first, last, stride, device=x.device)
            x = torch.index_select(x, axis, picks)
    return x


@register("Slice", since=1)
def slice_attributes(
    x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    return _slice(x, starts, ends, axes, None)


@register("Slice", since=10, host=(1, 2, 3, 4))
def slice_inputs(
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    return _slice(x, starts, ends, axes, steps)


@register("Range", since=11, host=(0, 1, 2))
def arange(start: float, limit: float, delta: float) -> Tensor:
    return torch.arange(start, limit, delta)


@register("Tile", since=6, host=(1,))
def tile(x: Tensor, repeats: list[int]) -> Tensor:
    return x.repeat(*repeats)


@register("CastLike", since=15)
def cast_like(x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x.to(like.dtype)
