"""Tensors for callers to keep, in memory that the results before them have left.

A result that is dropped before the next call leaves its pages to that of the next one, so that a
call makes the system clear none: csrc/results.cpp, which keeps 32 MiB of them at most.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgan.host.native import _native

#: Smaller ones are torch's own: what malloc keeps for them is little.
_LEAST = 1 << 16


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A new tensor, whose elements may be anything."""
    if device.type != "cpu":
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    return maker(shape, [math.prod(shape[i + 1 :]) for i in range(len(shape))], dtype)()


def maker(
    shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype = torch.float32
) -> Callable[[], Tensor]:
    """What makes such tensors on the CPU, one at each call.

    Args:
        strides: without gaps: the elements take all of the memory.
    """
    size = math.prod(shape) * dtype.itemsize
    if _native is None or not _LEAST <= size <= _native.RESULTS_KEPT:
        return functools.partial(torch.empty_strided, tuple(shape), tuple(strides), dtype=dtype)
    result, frombuffer = _native.Result, torch.frombuffer

    def make() -> Tensor:
        return frombuffer(result(size), dtype=dtype).as_strided_(shape, strides)

    return make
