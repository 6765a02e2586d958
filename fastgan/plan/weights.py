"""The constants of a plan, each in memory as long as somebody uses it."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Hashable, Iterator, Mapping, Set

import onnx_ir as ir
import torch
from torch import Tensor

from fastgan.model.late import Late
from fastgan.ops.nodes import as_meta, to_torch

__all__ = ["Weights", "identity_of", "identity_of_numbers", "joined", "meta_of", "only"]


class Weights(Mapping[str, Tensor]):
    """Constants by name: late ones (`fastgan.model.late`) are read when they are asked for, each
    again once its tensor is gone; all others are in memory.

    Args:
        tensors: by name, as the planned graph has them.
    """

    def __init__(self, tensors: Mapping[str, ir.TensorProtocol | Tensor]) -> None:
        self._here: dict[str, Tensor] = {}
        self._late: dict[str, Late] = {}
        self._read: weakref.WeakValueDictionary[str, Tensor] = weakref.WeakValueDictionary()
        for name, tensor in tensors.items():
            if isinstance(tensor, Late):
                self._late[name] = tensor
            else:
                self._here[name] = tensor if isinstance(tensor, Tensor) else to_torch(tensor)
        #: What the late ones are read from, which has to stay.
        self._held = [late.holder() for late in self._late.values()]

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, on the CPU in the model's own dtype."""
        late = self._late.get(name)
        if late is None:
            return self._here[name]
        tensor = self._read.get(name)
        if tensor is None:
            tensor = self._read[name] = to_torch(late)
        return tensor

    def __iter__(self) -> Iterator[str]:
        yield from self._here
        yield from self._late

    def __len__(self) -> int:
        return len(self._here) + len(self._late)

    def __contains__(self, name: object) -> bool:
        return name in self._here or name in self._late

    def tensors(self) -> dict[str, Tensor | Late]:
        """All as they are, by name."""
        return {**self._here, **self._late}

    def late(self, name: str) -> Late | None:
        """A constant whose numbers nobody needs to have read; None where it is in memory."""
        return self._late.get(name)


def only(weights: Mapping[str, Tensor], names: Set[str]) -> Mapping[str, Tensor]:
    """Those of these names."""
    if isinstance(weights, Weights):
        return Weights({n: t for n, t in weights.tensors().items() if n in names})
    return {name: tensor for name, tensor in weights.items() if name in names}


def joined(weights: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Both; of one name the second."""
    if isinstance(weights, Weights):
        return Weights({**weights.tensors(), **more})
    return {**weights, **more}


def meta_of(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """A constant without its numbers."""
    late = _late(weights, name)
    return weights[name].to("meta") if late is None else as_meta(late)


def identity_of(weights: Mapping[str, Tensor], name: str) -> Hashable:
    """Equal for constants of equal numbers, of one model, whichever plan they are of."""
    late = _late(weights, name)
    return identity_of_numbers(weights[name]) if late is None else late.identity


def identity_of_numbers(tensor: Tensor) -> Hashable:
    """Equal for tensors of equal numbers."""
    numbers = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.blake2b(numbers.data, digest_size=32).digest()
    return str(tensor.dtype), tuple(tensor.shape), digest


def _late(weights: Mapping[str, Tensor], name: str) -> Late | None:
    return weights.late(name) if isinstance(weights, Weights) else None
