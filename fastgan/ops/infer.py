"""Shapes and dtypes without running an op on the `meta` device.

PyTorch runs many ops on `meta` tensors in Python, and imports its compiler for the first one: over
a second. These rules say the same at once. An op without one is run on `meta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def meta(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor that has only a shape and a dtype."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """NumPy's broadcasting.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    first = tuple(shapes[0])
    if all(tuple(shape) == first for shape in shapes):
        return first
    result = [1] * max(len(shape) for shape in shapes)
    for shape in shapes:
        for index, extent in enumerate(reversed(shape), 1):
            if extent != 1:
                if result[-index] not in (1, extent):
                    raise ValueError(f"shapes {shapes} do not broadcast")
                result[-index] = extent
    return tuple(result)


def axis_of(axis: int, rank: int) -> int:
    """A possibly negative axis as one from 0 on.

    Raises:
        ValueError: a tensor of that rank has no such axis.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a tensor of rank {rank}")
    return axis % rank if rank else 0


def same(x: Tensor, *others: Any, **attributes: Any) -> Tensor:
    """The first input is passed on unchanged."""
    return x


def like_first(x: Tensor, *others: Any, **attributes: Any) -> Tensor:
    """The output is like the first input."""
    return meta(x.shape, x.dtype)


def mask_like_first(x: Tensor, *others: Any, **attributes: Any) -> Tensor:
    """The output is a mask of the first input's shape."""
    return meta(x.shape, torch.bool)


def broadcast(*tensors: Tensor, **attributes: Any) -> Tensor:
    """The inputs are of one dtype and broadcast; so is the output.

    Raises:
        ValueError: the shapes do not broadcast, or the dtypes differ.
        NotImplementedError: for uint64.
    """
    dtype = tensors[0].dtype
    if any(t.dtype is not dtype for t in tensors):
        raise ValueError(f"dtypes {', '.join(str(t.dtype) for t in tensors)} differ")
    if dtype is torch.uint64:
        raise NotImplementedError("torch computes nothing in uint64")
    return meta(broadcast_shapes(*(t.shape for t in tensors)), dtype)


def broadcast_boolean(*tensors: Tensor, **attributes: Any) -> Tensor:
    """The inputs broadcast to a mask."""
    return meta(broadcast(*tensors).shape, torch.bool)


def broadcast_first(x: Tensor, y: Tensor, **attributes: Any) -> Tensor:
    """The inputs broadcast; the output has the first one's dtype."""
    return meta(broadcast_shapes(x.shape, y.shape), x.dtype)


def select(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where: all three broadcast; the output has the dtype of the values."""
    return meta(broadcast_shapes(condition.shape, x.shape, y.shape), x.dtype)


def concatenate(*parts: Tensor, axis: int = 1) -> Tensor:
    """Concat: sizes add up along one axis."""
    if len(parts) == 1:
        return parts[0]
    axis = axis_of(axis, parts[0].dim())
    sizes = list(parts[0].shape)
    for part in parts:
        if [*part.shape[:axis], *part.shape[axis + 1 :]] != [*sizes[:axis], *sizes[axis + 1 :]]:
            raise ValueError(f"{tuple(part.shape)} does not join {tuple(parts[0].shape)}")
    sizes[axis] = sum(part.shape[axis] for part in parts)
    return meta(sizes, parts[0].dtype)
