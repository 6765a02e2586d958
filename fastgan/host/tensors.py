"""Tensors as callers give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import arguments


def dense(where: str, value: Any, needed: str) -> Tensor:
    """Numbers as a tensor that holds each of them as it is, in memory of its own or the caller's.

    Args:
        value: a tensor, an array, or what `torch.as_tensor` takes.
        needed: what should be there instead, for an error.

    Raises:
        ArgumentError: it is no numbers, or a tensor of another layout or without data.
    """
    if isinstance(value, Tensor):
        strided = value.layout is torch.strided and not value.is_nested
        if value.is_meta or value.is_quantized or not strided:
            kind = "quantized" if value.is_quantized else value.device.type
            kind = "nested" if value.is_nested else kind
            found = f"a {kind} tensor of layout {value.layout}"
            raise ArgumentError(where, found, "a dense tensor that has data")
        return value.detach().resolve_conj().resolve_neg()
    try:
        if not isinstance(value, np.ndarray):
            return torch.as_tensor(value)
        native = value.dtype.newbyteorder("=")
        backwards = any(stride < 0 for stride in value.strides)
        if backwards or not value.flags.writeable or value.dtype != native:
            value = value.astype(native)  # a copy: torch reads no such array where it lies
        return torch.from_numpy(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = arguments.text(value)
        if isinstance(value, np.ndarray):
            found = f"an array of {value.dtype}"
        raise ArgumentError(where, found, needed) from None


def kind_of(value: Any) -> tuple[Any, ...] | None:
    """All that says how a plain tensor is read; None where it is none, or not read as it lies."""
    if type(value) is not Tensor or value.is_nested:
        return None
    if value.requires_grad or value.is_neg() or value.is_conj():
        return None
    return value.shape, value.dtype, value.layout, value.device
