"""Sampling at computed places: ONNX GridSample and AffineGrid."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import meta
from fastgan.ops.registry import register

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def _sampled(x: Tensor, grid: Tensor, **_: Any) -> Tensor:
    rank = x.dim() - 2
    if rank not in (2, 3) or grid.dim() != x.dim() or grid.shape[-1] != rank:
        raise ValueError(f"a grid {tuple(grid.shape)} on an input {tuple(x.shape)}")
    if grid.shape[0] != x.shape[0]:
        raise ValueError(f"{grid.shape[0]} grids for {x.shape[0]} samples")
    return meta((*x.shape[:2], *grid.shape[1:-1]), x.dtype)


# ONNX has it from opset 16 on; `fastgan.model.plain` makes it of ONNX Runtime's own in older files.
@register("GridSample", since=1, infer=_sampled)
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    """x [N, C, *size], grid [N, *output, rank] in [-1, 1] -> [N, C, *output]; 2-D and 3-D."""
    return F.grid_sample(x, grid, _MODES.get(mode, mode), padding_mode, bool(align_corners))


def _grid(theta: Tensor, size: list[int], **_: Any) -> Tensor:
    if len(size) not in (4, 5) or tuple(theta.shape) != (size[0], len(size) - 2, len(size) - 1):
        raise ValueError(f"theta {tuple(theta.shape)} for size {size}")
    return meta((size[0], *size[2:], len(size) - 2), theta.dtype)


@register("AffineGrid", since=20, host=(1,), infer=_grid)
def affine_grid(theta: Tensor, size: list[int], *, align_corners: int = 0) -> Tensor:
    """theta [N, rank, rank + 1], size [N, C, *output] -> [N, *output, rank]."""
    return F.affine_grid(theta, size, bool(align_corners))
