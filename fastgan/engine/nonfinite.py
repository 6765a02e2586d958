"""Whether tensors hold a NaN or Inf."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.host.native import _native

_are_finite = _native.runtime.are_finite if hasattr(_native, "runtime") else None


def holds_nonfinite(made: Tensor) -> bool:
    """Whether a NaN or Inf is among these numbers.

    On a CPU on this thread: torch's operators take several times as long for a few numbers, and for
    many spin afterwards on the cores that the next run needs.
    """
    if made.dtype is torch.float32 and made.is_cpu and _are_finite is not None:
        if not made.is_contiguous():
            made = made.contiguous()
        return not _are_finite(made.data_ptr(), made.numel())
    if not made.is_floating_point():
        return False
    return not bool(made.isfinite().all())
