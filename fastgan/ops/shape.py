"""Shape operators: they make, view, cut or join tensors, and compute nothing on their elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.elementwise import torch_dtype
from fastgan.ops.infer import axis_of, broadcast_shapes, concatenate, like_first, meta, same
from fastgan.ops.registry import register


@register("Identity", since=1, infer=same, unsigned=True, elementwise=True, view=True)
def identity(x: Tensor) -> Tensor:
    return x


@register("Constant", since=1, unsigned=True)
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
        return torch.tensor(number, dtype=torch.float32, device="cpu")
    whole = value_int if value_ints is None else list(value_ints)
    return torch.tensor(whole, dtype=torch.int64, device="cpu")


def _filled(shape: list[int], *, value: Tensor | None = None) -> Tensor:
    return meta(shape, torch.float32 if value is None else value.dtype)


@register("ConstantOfShape", since=9, host=(0,), infer=_filled)
def constant_of_shape(shape: list[int], *, value: Tensor | None = None) -> Tensor:
    if value is None:
        return torch.zeros(shape)
    return torch.full(shape, value.reshape(()).item(), dtype=value.dtype)


@register("Shape", since=1, unsigned=True)
def shape_of(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The dimensions of x as int64, known even where the data are not."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64, device="cpu")


@register("Size", since=1, unsigned=True)
def size_of(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64, device="cpu")


def _sizes(x: Tensor, shape: Sequence[int], allowzero: int) -> list[int]:
    """The shape that ONNX means: a 0 copies that dimension unless allowzero, -1 is what is left."""
    sizes = [x.shape[i] if s == 0 and not allowzero else s for i, s in enumerate(shape)]
    if -1 in sizes:
        others = math.prod([s for s in sizes if s != -1])  # a list: torch.compile knows it
        if others == 0 or x.numel() % others:
            raise ValueError(f"{x.numel()} elements do not fill a shape of {list(shape)}")
        sizes[sizes.index(-1)] = x.numel() // others
    if min(sizes, default=1) < 0 or math.prod(sizes) != x.numel():
        raise ValueError(f"{x.numel()} elements do not fill a shape of {list(shape)}")
    return sizes


def _reshaped(x: Tensor, shape: Sequence[int] = (), *, allowzero: int = 0, **given: Any) -> Tensor:
    sizes = _sizes(x, given.get("shape", shape), allowzero)
    return x if sizes == list(x.shape) else meta(sizes, x.dtype)


@register("Reshape", since=1, infer=_reshaped, unsigned=True, view=True)
def reshape_attribute(x: Tensor, *, shape: Sequence[int]) -> Tensor:
    return x.reshape(_sizes(x, shape, 0))


@register("Reshape", since=5, host=(1,), infer=_reshaped, unsigned=True, view=True)
def reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    return x.reshape(_sizes(x, shape, allowzero))


def _rows(x: Tensor, axis: int) -> tuple[int, int]:
    if not -x.dim() <= axis <= x.dim():
        raise ValueError(f"axis {axis} of a tensor of rank {x.dim()}")
    axis = axis + x.dim() if axis < 0 else axis
    return math.prod(x.shape[:axis]), math.prod(x.shape[axis:])


@register("Flatten", since=1, unsigned=True, view=True)
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    return x.reshape(_rows(x, axis))


@register("Transpose", since=1, unsigned=True, strided=True)
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(*(perm if perm is not None else reversed(range(x.dim()))))


@register("Concat", since=1, infer=concatenate, unsigned=True, fresh=True)
def concat(*parts: Tensor, axis: int = 1) -> Tensor:
    return torch.cat(parts, axis)


@register("Squeeze", since=1, unsigned=True, view=True)
def squeeze_attribute(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    return squeeze(x, axes)


@register("Squeeze", since=13, host=(1,), unsigned=True, view=True)
def squeeze(x: Tensor, axes: Sequence[int] | int | None = None) -> Tensor:
    """Raises ValueError where an axis to go is not of size 1."""
    if axes is None:
        return x.squeeze()
    axes = [axes] if isinstance(axes, int) else axes
    gone = {axis_of(axis, x.dim()) for axis in axes}
    if any(x.shape[axis] != 1 for axis in gone):
        raise ValueError(f"axes {list(axes)} of shape {list(x.shape)} are not all of size 1")
    return x.reshape([extent for axis, extent in enumerate(x.shape) if axis not in gone])


@register("Unsqueeze", since=1, unsigned=True, view=True)
def unsqueeze_attribute(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    return unsqueeze(x, axes)


@register("Unsqueeze", since=13, host=(1,), unsigned=True, view=True)
def unsqueeze(x: Tensor, axes: Sequence[int] | int) -> Tensor:
    axes = [axes] if isinstance(axes, int) else axes
    rank = x.dim() + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise ValueError(f"axes {list(axes)} name one twice")
    old = iter(x.shape)
    return x.reshape([1 if axis in new else next(old) for axis in range(rank)])


def _expanded(x: Tensor, shape: list[int]) -> Tensor:
    sizes = broadcast_shapes(x.shape, shape)
    if min(sizes, default=0) < 0:
        raise ValueError(f"a shape of {shape}")
    return x if sizes == tuple(x.shape) else meta(sizes, x.dtype)


@register("Expand", since=8, host=(1,), infer=_expanded, unsigned=True, strided=True)
def expand(x: Tensor, shape: list[int]) -> Tensor:
    """Two-way broadcasting: a 1 in `shape` keeps the dimension of x."""
    return x.expand(broadcast_shapes(x.shape, shape))


def _tiled(x: Tensor, repeats: list[int]) -> Tensor:
    if len(repeats) != x.dim() or min(repeats, default=0) < 0:
        raise ValueError(f"repeats {repeats} of shape {list(x.shape)}")
    return meta([extent * n for extent, n in zip(x.shape, repeats, strict=True)], x.dtype)


@register("Tile", since=6, host=(1,), infer=_tiled, unsigned=True)
def tile(x: Tensor, repeats: list[int]) -> Tensor:
    return x.repeat(*repeats) if repeats else x


def _pieces(
    x: Tensor, split: Sequence[int] | None, axis: int, num_outputs: int
) -> tuple[list[int], int]:
    """The sizes to cut an axis into; without `split` equal ones, the last of what is left."""
    axis = axis_of(axis, x.dim())
    extent = x.shape[axis]
    if split is None:
        most = -(-extent // num_outputs)
        split = [min(most, max(0, extent - i * most)) for i in range(num_outputs)]
    if sum(split) != extent or min(split, default=0) < 0:
        raise ValueError(f"pieces {list(split)} of {extent} elements")
    return list(split), axis


def _split(
    x: Tensor, split: Sequence[int] | None = None, *, axis: int = 0, num_outputs: int = 1
) -> tuple[Tensor, ...]:
    sizes, axis = _pieces(x, split, axis, num_outputs)
    return torch.split(x, sizes, axis)


@register("Split", since=1, unsigned=True, strided=True)
def split_attribute(
    x: Tensor, *, axis: int = 0, split: Sequence[int] | None = None, num_outputs: int = 1
) -> tuple[Tensor, ...]:
    return _split(x, split, axis=axis, num_outputs=num_outputs)


@register("Split", since=13, host=(1,), unsigned=True, strided=True)
def split_inputs(
    x: Tensor, split: list[int] | None = None, *, axis: int = 0, num_outputs: int = 1
) -> tuple[Tensor, ...]:
    return _split(x, split, axis=axis, num_outputs=num_outputs)


@register("DepthToSpace", since=1, unsigned=True)
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """x [N, C, H, W] -> [N, C / b^2, H * b, W * b]; the block comes first in C with mode DCR."""
    n, c, h, w = x.shape
    b, depth = blocksize, c // blocksize**2
    if depth * b * b != c:
        raise ValueError(f"blocks of {b} x {b} from {c} channels")
    if mode == "DCR":
        blocks = x.reshape(n, b, b, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, depth, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, depth, h * b, w * b)


@register("SpaceToDepth", since=1, unsigned=True)
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """x [N, C, H, W] -> [N, C * b^2, H / b, W / b], the inverse of DepthToSpace in that mode."""
    n, c, h, w = x.shape
    b = blocksize
    if h % b or w % b:
        raise ValueError(f"blocks of {b} x {b} from {h} x {w} pixels")
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.permute(order).reshape(n, c * b * b, h // b, w // b)


def _centred(x: Tensor, shape: list[int], axes: Sequence[int] | None) -> list[tuple[int, int]]:
    chosen = list(range(x.dim())) if axes is None else [axis_of(a, x.dim()) for a in axes]
    pairs = [(0, 0)] * x.dim()
    for axis, want in zip(chosen, shape, strict=True):
        more = want - x.shape[axis]
        # Half before, rounded towards zero, for a pad as for a crop.
        before = int(more / 2)
        pairs[axis] = (before, more - before)
    return pairs


def _centre_shape(x: Tensor, shape: list[int], *, axes: Sequence[int] | None = None) -> Tensor:
    pairs = _centred(x, shape, axes)
    return meta([n + b + e for n, (b, e) in zip(x.shape, pairs, strict=True)], x.dtype)


@register("CenterCropPad", since=18, host=(1,), infer=_centre_shape)
def center_crop_pad(x: Tensor, shape: list[int], *, axes: Sequence[int] | None = None) -> Tensor:
    pairs = _centred(x, shape, axes)
    return torch.nn.functional.pad(x, [p for pair in reversed(pairs) for p in pair])


@register("Trilu", since=14, host=(1,), infer=like_first)
def trilu(x: Tensor, k: Any = 0, *, upper: int = 1) -> Tensor:
    offset = k[0] if isinstance(k, list) else k
    # torch adds the offset to the sizes in 64 bits: an offset beyond them means the same.
    offset = max(-x.shape[-2], min(offset or 0, x.shape[-1]))
    return x.triu(offset) if upper else x.tril(offset)


def _eye_shape(x: Tensor, *, dtype: int | None = None, **_: Any) -> Tensor:
    return meta(x.shape, x.dtype if dtype is None else torch_dtype(dtype))


@register("EyeLike", since=9, infer=_eye_shape)
def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    rows, columns = x.shape
    kind = x.dtype if dtype is None else torch_dtype(dtype)
    row = torch.arange(rows, device=x.device).unsqueeze(1)
    return (torch.arange(columns, device=x.device) == row + k).to(kind)
