"""ONNX Resize and Upsample: separable interpolation, one axis after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import axis_of, meta
from fastgan.ops.registry import register

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@dataclass(frozen=True, slots=True)
class _Axis:
    """How one axis is resized: `size` elements to `output`, whose ratio `scale` need not be."""

    size: int
    output: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Mode:
    """The attributes of Resize that say how to interpolate, under their ONNX names."""

    mode: str = "nearest"
    coordinate_transformation_mode: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: int = 0
    extrapolation_value: float = 0.0
    antialias: int = 0


def _product(size: int, scale: float) -> float:
    """In float32, as scales are given and as ONNX Runtime and TensorFlow have it.

    Rounded down it is the size meant: 3 * float32(5 / 3) is below 5 in float64.
    """
    return float(np.float32(size) * np.float32(scale))


def _plan(
    shape: Sequence[int],
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    roi: Sequence[float] | None = None,
    axes: Sequence[int] | None = None,
    policy: str = "stretch",
) -> list[_Axis]:
    """What happens to each axis of an input of this shape."""
    rank = len(shape)
    chosen = list(range(rank)) if axes is None else [axis_of(a, rank) for a in axes]
    if sizes:
        if len(sizes) != len(chosen):
            raise ValueError(f"{len(sizes)} sizes for {len(chosen)} axes")
        factors = [s / shape[a] for a, s in zip(chosen, sizes, strict=True)]
        outputs = list(sizes)
        if policy != "stretch":
            common = min(factors) if policy == "not_larger" else max(factors)
            factors = [common] * len(chosen)
            outputs = [int(common * shape[a] + 0.5) for a in chosen]
    elif scales:
        if len(scales) != len(chosen):
            raise ValueError(f"{len(scales)} scales for {len(chosen)} axes")
        factors = list(scales)
        outputs = [math.floor(_product(shape[a], s)) for a, s in zip(chosen, scales, strict=True)]
    else:
        raise ValueError("neither scales nor sizes")
    if not all(f > 0 for f in factors):
        raise ValueError(f"scales {factors}")
    plan = [_Axis(extent, extent, 1.0) for extent in shape]
    for i, (axis, factor, output) in enumerate(zip(chosen, factors, outputs, strict=True)):
        region = (roi[i], roi[len(chosen) + i]) if roi else (0.0, 1.0)
        plan[axis] = _Axis(shape[axis], output, factor, region)
    return plan


def _coordinates(axis: _Axis, mode: str, device: torch.device) -> Tensor:
    """Where in the input each output element lies, float32 [output].

    In float32 and in the order of the operator's formulas, as ONNX Runtime has them: a rounding
    apart, and the nearest is another.
    """
    y = torch.arange(axis.output, dtype=torch.float32, device=device)
    scale = torch.tensor(axis.scale, dtype=torch.float32, device=device)
    width = _product(axis.size, axis.scale)
    if abs(width - round(width)) < 1e-4:  # a rounding from what is meant
        width = axis.output
    if mode == "align_corners":  # of the elements that are made, not of size times scale
        return y * (axis.size - 1) / max(axis.output - 1, 1)
    if mode == "asymmetric":
        return y / scale
    if mode == "tf_crop_and_resize":
        start, end = axis.roi
        span = (end - start) * (axis.size - 1)
        inside = y * 0 + span / 2 if axis.output == 1 else y * (span / (axis.output - 1))
        return inside + start * (axis.size - 1)
    if mode == "tf_half_pixel_for_nn":
        return (y + 0.5) / scale
    if mode == "pytorch_half_pixel" and width == 1:
        return y * 0 - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(axis.output) / np.float32(_product(axis.size, axis.scale))
        offset = np.float32(axis.size / 2) * (np.float32(1) - adjustment)
        return (float(offset) + (y.double() + 0.5) / scale.double() - 0.5).float()
    if mode not in ("half_pixel", "pytorch_half_pixel"):
        raise ValueError(f"coordinate_transformation_mode {mode!r}")
    return (y + 0.5) / scale - 0.5


#: Coordinates so near the middle of two elements are in it, as in ONNX Runtime: 1 / (2 / 7) is
#: 3.4999998 in float32.
_TIE = 1e-6


def _nearest(x: Tensor, mode: str) -> Tensor:
    below = x.floor()
    above = x - below - 0.5
    if mode == "round_prefer_floor":
        return below + (above > _TIE)
    if mode == "round_prefer_ceil":
        return below + (above >= -_TIE)
    if mode in ("floor", "ceil"):
        return below if mode == "floor" else x.ceil()
    raise ValueError(f"nearest_mode {mode!r}")


def _weight(distance: Tensor, how: _Mode) -> Tensor:
    """The interpolation kernel: a triangle, or Keys' cubic of parameter a."""
    t = distance.abs()
    if how.mode == "linear":
        return (1 - t).clamp(min=0)
    a = how.cubic_coeff_a
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def _taps(axis: _Axis, x: Tensor, how: _Mode) -> tuple[Tensor, Tensor]:
    """Indices and weights of the elements that each output is made of, both [output, taps]."""
    # To shrink without aliasing the kernel is stretched over more of the input.
    stretch = min(axis.scale, 1.0) if how.antialias else 1.0
    reach = math.ceil((1 if how.mode == "linear" else 2) / stretch)
    offsets = torch.arange(1 - reach, reach + 1, device=x.device)
    indices = x.floor().long().unsqueeze(1) + offsets
    weights = _weight((indices - x.unsqueeze(1)) * stretch, how)
    if how.exclude_outside:
        weights = weights * ((indices >= 0) & (indices < axis.size))
    if how.exclude_outside or how.antialias:
        weights = weights / weights.sum(1, keepdim=True)
    return indices.clamp(0, axis.size - 1), weights


def _resize_axis(x: Tensor, dim: int, axis: _Axis, how: _Mode) -> Tensor:
    at = _coordinates(axis, how.coordinate_transformation_mode, x.device)
    if how.mode == "nearest":
        index = _nearest(at, how.nearest_mode).long().clamp(0, axis.size - 1)
        y = torch.index_select(x, dim, index)
    else:
        indices, weights = _taps(axis, at, how)
        column = [-1 if i == dim else 1 for i in range(x.dim())]
        y = x.new_zeros(())
        for tap in range(indices.shape[1]):
            part = torch.index_select(x, dim, indices[:, tap])
            y = y + part * weights[:, tap].to(x.dtype).reshape(column)
    if how.coordinate_transformation_mode == "tf_crop_and_resize":
        outside = ((at < 0) | (at > axis.size - 1)).reshape(
            [-1 if i == dim else 1 for i in range(x.dim())]
        )
        y = torch.where(outside, torch.full_like(y, how.extrapolation_value), y)
    return y


def _torch_mode(x: Tensor, plan: list[_Axis], how: _Mode) -> dict[str, Any] | None:
    """The arguments with which torch's own interpolation does exactly the same, or None."""
    if not 3 <= x.dim() <= 5 or not x.is_floating_point() or how.antialias or how.exclude_outside:
        return None
    if any(axis.output != axis.size for axis in plan[:2]):
        return None
    if any(axis.output != _product(axis.size, axis.scale) for axis in plan):
        return None
    centred = how.coordinate_transformation_mode in ("half_pixel", "pytorch_half_pixel")
    if how.mode == "nearest":
        rounds = how.nearest_mode.startswith("round_prefer")
        floors = how.coordinate_transformation_mode == "asymmetric" and how.nearest_mode == "floor"
        # torch multiplies by the reciprocal of the scale, which is exact for powers of two.
        exact = all(axis.scale in (1, 2, 4, 8, 16) for axis in plan)
        return {"mode": "nearest"} if exact and (floors or (centred and rounds)) else None
    corners = how.coordinate_transformation_mode == "align_corners"
    if any(axis.output == 1 for axis in plan[2:]) or not (centred or corners):
        return None
    if how.mode == "linear":
        return {"mode": _LINEAR[x.dim()], "align_corners": corners}
    if x.dim() == 4 and how.cubic_coeff_a == -0.75:
        return {"mode": "bicubic", "align_corners": corners}
    return None


def _resize(x: Tensor, plan: list[_Axis], how: _Mode) -> Tensor:
    known = _torch_mode(x, plan, how)
    if known is not None:
        return F.interpolate(x, size=[axis.output for axis in plan[2:]], **known)
    wide = x if x.is_floating_point() or how.mode == "nearest" else x.double()
    changed = [a.output != a.size or a.scale != 1 or a.roi != (0.0, 1.0) for a in plan]
    # As in PyTorch and ONNX Runtime: what is not finite reaches what reads it by a weight of 0 too.
    together = any(changed) and how.mode != "nearest"
    for dim, axis in enumerate(plan):
        if changed[dim] or (together and dim >= 2):
            wide = _resize_axis(wide, dim, axis, how)
    if wide.dtype is x.dtype:
        return wide
    limits = torch.iinfo(x.dtype)
    return wide.round().clamp(limits.min, limits.max).to(x.dtype)


def _resized(
    x: Tensor,
    roi: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    axes: Sequence[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
    **_: Any,
) -> Tensor:
    plan = _plan(x.shape, scales, sizes, None, axes, keep_aspect_ratio_policy)
    return meta([axis.output for axis in plan], x.dtype)


@register("Resize", since=11, host=(1, 2, 3), infer=_resized)
def resize(
    x: Tensor,
    roi: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    cropped = coordinate_transformation_mode == "tf_crop_and_resize"
    plan = _plan(x.shape, scales, sizes, roi if cropped else None, axes, keep_aspect_ratio_policy)
    how = _Mode(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        exclude_outside,
        extrapolation_value,
        antialias,
    )
    return _resize(x, plan, how)


def _resized_by_scales(x: Tensor, scales: Sequence[float] = (), **given: Any) -> Tensor:
    return _resized(x, None, given.get("scales", scales))


@register("Upsample", since=9, host=(1,), infer=_resized_by_scales)
@register("Resize", since=10, host=(1,), infer=_resized_by_scales)
def resize_by_scales(x: Tensor, scales: Sequence[float], *, mode: str = "nearest") -> Tensor:
    """Before opset 11 coordinates are x / scale, rounded down for the nearest."""
    how = _Mode(mode, "asymmetric", "floor")
    return _resize(x, _plan(x.shape, scales, None), how)


@register("Upsample", since=7, infer=_resized_by_scales)
def upsample_attribute(x: Tensor, *, scales: Sequence[float], mode: str = "nearest") -> Tensor:
    return resize_by_scales(x, scales, mode=mode)
