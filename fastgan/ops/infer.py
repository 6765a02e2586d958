"""Shapes and dtypes of the commonest ops, without running them on the `meta` device.

PyTorch runs elementwise ops on `meta` tensors in Python, and imports its compiler for the first
one: over a second. These rules say the same at once. An op without one is run on `meta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def meta(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor that has only a shape and a dtype."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def like_first(x: Tensor, *others: Any, **attributes: Any) -> Tensor:
    """The output is like the first input."""
    return meta(x.shape, x.dtype)


def broadcast(*tensors: Tensor, **attributes: Any) -> Tensor:
    """The inputs broadcast; the output has the first one's dtype."""
    return meta(torch.broadcast_shapes(*(t.shape for t in tensors)), tensors[0].dtype)


def broadcast_boolean(*tensors: Tensor, **attributes: Any) -> Tensor:
    """The inputs broadcast to a mask."""
    return meta(torch.broadcast_shapes(*(t.shape for t in tensors)), torch.bool)


def select(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where: all three broadcast; the output has the dtype of the values."""
    return meta(torch.broadcast_shapes(condition.shape, x.shape, y.shape), x.dtype)


def concatenate(*parts: Tensor, axis: int) -> Tensor:
    """Concat: sizes add up along one axis."""
    sizes = list(parts[0].shape)
    sizes[axis] = sum(part.shape[axis] for part in parts)
    return meta(sizes, parts[0].dtype)
