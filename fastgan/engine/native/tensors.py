"""Where the tensors of a native graph lie: views of roots, which are placed once all are known.

A view is a meta tensor: its shape, strides and offset are torch's own, so that a slice, a reshape
or a transposition is torch's too and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: The slot of csrc/runtime/operation.h; those of the caller's tensors follow it.
ARENA = 0

#: Buffers begin at multiples of so many floats: a cache line.
ALIGNMENT = 16


@dataclass(eq=False)
class Root:
    """One piece of memory.

    Attributes:
        size: in floats.
        constant: whether it is one.
        slot, offset: where it is; of the arena's placed last.
        first, last: the operations that write it first and use it last.
    """

    size: int
    constant: bool = False
    slot: int = ARENA
    offset: int = 0
    first: int = 1 << 60
    last: int = -1

    def used(self, index: int) -> None:
        """By an operation."""
        self.first, self.last = min(self.first, index), max(self.last, index)


@dataclass(frozen=True, eq=False)
class View:
    """A tensor within a root."""

    root: Root
    meta: Tensor = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.meta.shape)

    @property
    def strides(self) -> list[int]:
        """0 along an axis of one element, so that such an axis fits everything."""
        return [
            0 if size == 1 else stride
            for size, stride in zip(self.meta.shape, self.meta.stride(), strict=True)
        ]

    @property
    def place(self) -> tuple[int, int]:
        """As the native operations take it."""
        return self.root.slot, self.root.offset + int(self.meta.storage_offset())

    @property
    def whole(self) -> bool:
        """Whether it is all of its root, each element once."""
        return self.meta.numel() == self.root.size and is_dense(self.meta)

    def of(self, meta: Tensor) -> View:
        """Another view of the same root."""
        return View(self.root, meta)

    def narrow(self, axis: int, first: int, size: int) -> View:
        """A part along an axis."""
        return self.of(self.meta.narrow(axis, first, size))


def is_dense(meta: Tensor) -> bool:
    """Whether its elements lie side by side, in any order of the axes."""
    expected = 1
    axes = [i for i in range(meta.dim()) if meta.shape[i] != 1]
    for axis in sorted(axes, key=meta.stride):
        if meta.stride(axis) != expected:
            return False
        expected *= meta.shape[axis]
    return True


def channels_last(shape: Sequence[int]) -> Tensor:
    """[N, C, *sizes] with the channels innermost."""
    order = (0, *range(2, len(shape)), *((1,) if len(shape) > 1 else ()))
    strides = [0] * len(shape)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return torch.empty_strided(shape, strides, device="meta")


def plain(shape: Sequence[int]) -> Tensor:
    """Row by row."""
    return torch.empty(tuple(shape), device="meta")


def new(meta: Tensor) -> View:
    """A root of its own for such a tensor."""
    return View(Root(math.prod(meta.shape)), meta)
