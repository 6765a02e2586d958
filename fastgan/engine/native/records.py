"""Native operations as bytes: what csrc/runtime/records/records.h reads, and a bundle holds.

The fields of each kind, in their order, stand in docs/bundle.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.engine.native.packing import Product

#: A tensor that is not there, as (slot, offset).
NOTHING = (-2, 0)

#: Slots from here on are constants.
CONSTANTS = 1 << 20


class Kind(IntEnum):
    """Which operation a record is of."""

    DENSE = 1
    MATRICES = 2
    PACK = 3
    DEPTHWISE = 4
    POINTWISE = 5
    GATHER = 6
    NORM = 7
    ROWS = 8
    RESAMPLE = 9
    TAKE = 10
    REDUCE = 11
    DENSE_BF16 = 12
    DOTS = 13
    RECURRENT = 14
    ATTENTION = 15
    ANY_RECURRENT = 16
    DEPTHWISE_PLANES = 17


class Constants:
    """The tensors that records point to, each once.

    Attributes:
        tensors: float32, row by row; without numbers (meta) where these are packed elsewhere.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._known: dict[tuple[int, int], int] = {}

    def slot(self, tensor: Tensor) -> int:
        """The slot of a tensor: float32, row by row."""
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
        key = (tensor.data_ptr(), tensor.numel())
        if key not in self._known:
            self._known[key] = len(self.tensors)
            self.tensors.append(tensor)
        return CONSTANTS + self._known[key]

    def place(self, tensor: Tensor | None) -> tuple[int, int]:
        """Where a constant is, if there is one."""
        return NOTHING if tensor is None else (self.slot(tensor), 0)

    def product(self, made: Product, most_minimal: int) -> list[tuple[int, int]]:
        """Where the weight and the bias are of a layer that may take tiles of this size."""
        return [self.place(tensor) for tensor in made.loaded()]


def record(kind: Kind, *fields: Any) -> bytes:
    """One operation: whole numbers and others of 8 bytes, in order; see `listed`."""
    return b"".join([struct.pack("<q", kind), *map(_field, fields)])


def listed(values: Iterable[Any] | Tensor) -> bytes:
    """Numbers behind how many they are."""
    array = values.numpy() if isinstance(values, Tensor) else np.asarray(list(values))
    if not array.size:
        return struct.pack("<q", 0)
    wide = array.astype("<f8" if array.dtype.kind == "f" else "<i8")
    return struct.pack("<q", wide.size) + wide.tobytes()


def product(made: Product, constants: Constants, most_minimal: int) -> bytes:
    """What a layer computes, by Winograd's filtering of tiles up to `most_minimal`."""
    weight, bias = constants.product(made, most_minimal)
    _, _, channels, *block, outputs = made.weight.shape
    strides = (0, 0, 0) if made.bias is None else made.bias.stride()
    return b"".join(
        map(
            _field,
            (
                *(axis.numbers for axis in made.axes),
                2 if made.depthwise else int(made.linear),
                channels,
                outputs,
                block,
                weight,
                made.weight.stride(),
                bias,
                strides,
            ),
        )
    )


def _field(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, (tuple, list)):
        return b"".join(map(_field, value))
    return struct.pack("<q", int(value))
