"""Whether tensors hold a NaN or Inf."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.host.native import _native


def holds_nonfinite(made: Tensor) -> bool:
    """Whether a NaN or Inf is among these numbers.

    On a CPU on this thread: torch's operators take several times as long for a few numbers, and for
    many spin afterwards on the cores that the next run needs.
    """
    if not made.is_floating_point():
        return False
    if made.dtype is torch.float32 and made.device.type == "cpu" and hasattr(_native, "runtime"):
        made = made.contiguous()
        return not _native.runtime.are_finite(made.data_ptr(), made.numel())
    return not bool(made.isfinite().all())
