"""How images lie in memory: channels last, perhaps as some of the channels of a wider image.

Tensors that are to be concatenated along the channels are written side by side, so that the
concatenation is there without a copy. Each is then a view whose pixels are further apart than it
has channels: by its pitch.
"""

from __future__ import annotations

import torch


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have the same shape and order in memory."""
    if a.shape != b.shape:
        return False
    # Strides of dimensions of length 1 say nothing.
    return all(a.stride(i) == b.stride(i) for i in range(a.dim()) if a.shape[i] > 1)


def is_pitched(x: torch.Tensor) -> bool:
    """Whether [N, C, H, W] lies with channels last, perhaps as some of a wider image's channels."""
    wide = _pitch(x)
    steps = (x.shape[2] * x.shape[3] * wide, 1, x.shape[3] * wide, wide)
    return wide >= x.shape[1] and all(
        x.stride(i) == step for i, step in enumerate(steps) if x.shape[i] > 1
    )


def pitch(x: torch.Tensor, name: str) -> int:
    """Elements from one pixel of x [N, C, H, W] to the next (ValueError: not channels last)."""
    if not is_pitched(x):
        raise ValueError(f"{name}: found strides {x.stride()}, needed channels_last")
    return _pitch(x)


def _pitch(x: torch.Tensor) -> int:
    # Strides of dimensions of length 1 say nothing.
    return next((x.stride(i) for i in (3, 2, 0) if x.shape[i] > 1), x.shape[1])


def is_aligned(x: torch.Tensor) -> bool:
    """Whether the bulk copy engine can read x: its pixels begin at multiples of 16 bytes."""
    bytes_ = x.element_size()
    return _pitch(x) * bytes_ % 16 == 0 and x.storage_offset() * bytes_ % 16 == 0
