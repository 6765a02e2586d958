"""Norms over space of images that lie channels last on a CPU: instance and group norm, AdaIN.

The native pass (`csrc/normalise.cpp`) keeps the digits that torch's op loses (`ops.normalisation`),
and adds the residual and activates as it goes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastgan.host.native import _native
from fastgan.ops.normalisation import cancels
from fastgan.plan import Epilogue
from fastgan.plan.activations import TABLE


def native(
    x: Tensor,
    groups: int,
    gamma: Tensor | None,
    beta: Tensor | None,
    epsilon: float,
    residual: Tensor | None,
    epilogue: Epilogue,
    act: Callable[[Tensor], Tensor] | None,
) -> Tensor | None:
    """activation((x - mean) / sqrt(variance + epsilon) * gamma + beta + residual), channels last.

    Args:
        x: [N, C, H, W].
        groups: of channels; each has a mean and a variance in each sample.
        gamma, beta: [C], [N, C] or None.
        epsilon: added to the variance.
        residual: of x's shape, or None.
        epilogue: whose activation follows.
        act: that activation as a function, where there is one.

    Returns:
        Memory of its own, or None where the native pass is not built or does not cover it.
    """
    if not cancels(x) or not hasattr(_native, "normalise"):
        return None
    if x.dtype not in (torch.float32, torch.bfloat16):
        return None
    if residual is not None:
        if residual.shape != x.shape or residual.dtype != x.dtype:
            return None
        residual = residual.contiguous(memory_format=torch.channels_last)
    images, channels, height, width = x.shape
    rows = [
        None if p is None else p.reshape(-1, channels).float().contiguous() for p in (gamma, beta)
    ]
    out = torch.empty_like(x, memory_format=torch.channels_last)
    code = TABLE[epilogue.activation].code
    _native.normalise(
        x.data_ptr(),
        out.data_ptr(),
        *[0 if t is None else t.data_ptr() for t in (residual, *rows)],
        x.dtype == torch.bfloat16,
        code or 0,
        epilogue.slope,
        epsilon,
        [images, height * width, channels, groups, *[1 if t is None else len(t) for t in rows]],
        torch.get_num_threads(),
    )
    return out if act is None or code is not None else act(out)
