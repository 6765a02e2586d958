"""What a caller gives for an input by its name, as the tensor that the model takes."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ArgumentError, UnsupportedError
from fastgan.host import arguments
from fastgan.host.tensors import dense
from fastgan.model.signature import Input, shape_text

_NARROW = re.compile(r"u?int[1-7]")


def for_samples(port: Input, value: Any, n: int, rows: bool, device: torch.device) -> Tensor:
    """An input of n samples.

    Args:
        value: a number, a list, an array or a tensor. One number fills whatever holds one for each
            sample, and one row, with its axis or without, is every sample's.
        rows: whether the input has a row for each sample (`Signature.has_rows`).

    Raises:
        ArgumentError: it is of another shape, or holds what the input's type can't.
    """
    raw = _tensor(f"input {port.name!r}", value)
    if port.kind == "scalar":
        _check_number(port, value, raw)
    tensor = typed(port, raw)
    if port.kind == "tensor" and not port.shape:  # not even the rank is known
        return tensor.to(device)
    rank, shape = len(port.shape), tuple(tensor.shape)
    if tensor.numel() == 1 and math.prod(port.sample_shape) == 1:
        tensor = tensor.reshape((1,) * rank)
    elif port.kind == "scalar" and shape == (n,):
        tensor = tensor.reshape(n, *(1 for _ in port.shape[1:]))
    elif rows and tensor.dim() == rank - 1:
        tensor = tensor[None]
    if not _fits(port, tensor, n, rows):
        raise ArgumentError(f"input {port.name!r}", f"shape {shape}", _needed(port, n, rows))
    if rows:
        tensor = tensor.expand(n, *tensor.shape[1:])
    return tensor.to(device)


def element_type(port: Input) -> torch.dtype:
    """What an input holds.

    Raises:
        UnsupportedError: text, or numbers of less than a byte, which PyTorch can't fill or copy.
    """
    dtype = getattr(torch, port.dtype, None)
    if not isinstance(dtype, torch.dtype) or _NARROW.fullmatch(port.dtype):
        where, needed = f"input {port.name!r}", "numbers of a byte or more, or booleans"
        raise UnsupportedError(where, f"elements of type {port.dtype}", needed)
    return dtype


def typed(port: Input, value: Any) -> Tensor:
    """A value as a tensor of the input's type.

    Raises:
        ArgumentError: it is no numbers, or some that the type can't hold.
    """
    where = f"input {port.name!r}"
    tensor = _tensor(where, value)
    dtype = element_type(port)
    if tensor.dtype == dtype:
        return tensor
    if tensor.is_complex():
        raise ArgumentError(where, arguments.text(value), f"{port.dtype} numbers")
    made = tensor.to(dtype)
    if dtype.is_floating_point:
        infinite = made.isinf()
        lost = bool(infinite.any()) and bool((infinite & tensor.double().isfinite()).any())
    else:
        lost = not torch.equal(made.double(), tensor.double())
    if lost:
        raise ArgumentError(where, arguments.text(value), f"numbers that {port.dtype} holds")
    return made


def _tensor(where: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        value = np.array(value)  # of its own: it may change before it is read
    return dense(where, value, "a number, a list of them, an array or a tensor")


def _check_number(port: Input, value: Any, tensor: Tensor) -> None:
    """Refuse what a caller can only have mistaken for the number that a scalar is."""
    mistaken = tensor.dtype == torch.bool and port.dtype != "bool"
    if mistaken or not bool(tensor.isfinite().all()):
        found = arguments.text(value)
        raise ArgumentError(f"input {port.name!r}", found, f"a finite number, {port.dtype}")


def _fits(port: Input, tensor: Tensor, n: int, rows: bool) -> bool:
    if tensor.dim() != len(port.shape) or (rows and tensor.shape[0] not in (1, n)):
        return False
    pairs = list(zip(port.shape, tensor.shape, strict=True))[1 if rows else 0 :]
    return all(not isinstance(want, int) or want == size for want, size in pairs)


def _needed(port: Input, n: int, rows: bool) -> str:
    if math.prod(port.sample_shape) == 1:
        return f"one number, or one for each of {n}" if rows else "one number"
    if rows:
        sizes = ", ".join(map(str, port.shape[1:]))
        return f"shape [{sizes}], or [{n}, {sizes}]"
    return f"shape {shape_text(port.shape)}"
