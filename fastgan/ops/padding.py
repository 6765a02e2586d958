"""ONNX Pad: constant, reflect, edge and wrap, on any axes, with negative pads as crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import axis_of, meta
from fastgan.ops.registry import register

#: The modes that torch pads fast, for as many trailing axes as fit the rank.
_TORCH_MODES = {"reflect": "reflect", "edge": "replicate"}


def _per_axis(x: Tensor, pads: Sequence[int], axes: Sequence[int] | None) -> list[tuple[int, int]]:
    """(begin, end) of every axis, from ONNX's list of all begins, then all ends."""
    chosen = list(range(x.dim())) if axes is None else [axis_of(a, x.dim()) for a in axes]
    if len(pads) != 2 * len(chosen):
        raise ValueError(f"{len(pads)} pads for {len(chosen)} axes")
    pairs = [(0, 0)] * x.dim()
    for axis, begin, end in zip(chosen, pads, pads[len(chosen) :], strict=False):
        pairs[axis] = (begin, end)
    return pairs


def _padded(
    x: Tensor,
    pads: Sequence[int] = (),
    value: Any = None,
    axes: Sequence[int] | None = None,
    **attributes: Any,
) -> Tensor:
    # Before opset 11 pads are an attribute, which opset 1 called `paddings`.
    pads = attributes.get("pads") or attributes.get("paddings") or pads
    pairs = _per_axis(x, pads, axes)
    shape = [extent + begin + end for extent, (begin, end) in zip(x.shape, pairs, strict=True)]
    if any(extent < 0 for extent in shape):
        raise ValueError(f"pads {list(pads)} leave a shape of {shape}")
    kept = [n + min(b, 0) + min(e, 0) for n, (b, e) in zip(x.shape, pairs, strict=True)]
    repeats = attributes.get("mode", "constant") != "constant" and 0 not in shape
    if repeats and min(kept, default=1) < 1:
        raise ValueError("nothing to repeat in an empty tensor")
    return x if not any(b or e for b, e in pairs) else meta(shape, x.dtype)


def _sources(extent: int, begin: int, end: int, mode: str, device: torch.device) -> Tensor:
    """The index in x of each element of one padded axis: cropped first, what is left repeats."""
    first = max(-begin, 0)
    extent += min(begin, 0) + min(end, 0)
    position = torch.arange(-max(begin, 0), extent + max(end, 0), device=device)
    if mode == "edge":
        position = position.clamp(0, extent - 1)
    elif mode == "wrap" or extent == 1:
        position = position % extent
    else:
        period = 2 * (extent - 1)
        position = position % period
        position = torch.where(position < extent, position, period - position)
    return first + position


def _pad(x: Tensor, pairs: list[tuple[int, int]], mode: str, value: float) -> Tensor:
    if mode == "constant":
        return F.pad(x, [p for pair in reversed(pairs) for p in pair], value=value)
    if mode not in ("reflect", "edge", "wrap"):
        raise ValueError(f"pad mode {mode!r}")
    spatial = pairs[2:]
    fits = all(0 <= p < n for pair, n in zip(spatial, x.shape[2:], strict=True) for p in pair)
    if (
        mode in _TORCH_MODES
        and fits
        and 3 <= x.dim() <= 5
        and pairs[:2] == [(0, 0)] * 2
        and x.is_floating_point()
    ):
        return F.pad(x, [p for pair in reversed(spatial) for p in pair], mode=_TORCH_MODES[mode])
    for axis, (begin, end) in enumerate(pairs):
        if begin or end:
            sources = _sources(x.shape[axis], begin, end, mode, x.device)
            x = torch.index_select(x, axis, sources)
    return x


@register("Pad", since=1, infer=_padded)
@register("Pad", since=2, infer=_padded)
def pad_attributes(
    x: Tensor,
    *,
    pads: Sequence[int] = (),
    paddings: Sequence[int] = (),
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    return _pad(x, _per_axis(x, pads or paddings, None), mode, value)


@register("Pad", since=11, host=(1, 2, 3), infer=_padded)
def pad(
    x: Tensor,
    pads: list[int],
    value: Any = None,
    axes: list[int] | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """value: a scalar, or a list of one."""
    number = value[0] if isinstance(value, list) else value
    return _pad(x, _per_axis(x, pads, axes), mode, number or 0)
