"""Reading and writing at computed places: ONNX Slice, Gather, Scatter and their kin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastgan.ops.infer import axis_of, like_first, meta
from fastgan.ops.registry import register


def _cuts(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> dict[int, range]:
    """The elements kept of each axis that is cut, clamped as ONNX asks, in either direction."""
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cuts = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(axis, x.dim())
        extent = x.shape[axis]
        first, last, stride = slice(start, end, step).indices(extent)
        if step < 0 and end < -extent:
            last = -1  # Python would count an end this far down from the back again.
        cuts[axis] = range(first, last, stride)
    return cuts


def _sliced(
    x: Tensor,
    starts: Sequence[int] = (),
    ends: Sequence[int] = (),
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    **given: Sequence[int],
) -> Tensor:
    cuts = _cuts(x, given.get("starts", starts), given.get("ends", ends), axes, steps)
    shape = list(x.shape)
    for axis, kept in cuts.items():
        shape[axis] = len(kept)
    return (
        x
        if all(kept == range(x.shape[axis]) for axis, kept in cuts.items())
        else meta(shape, x.dtype)
    )


def _slice(x: Tensor, cuts: dict[int, range]) -> Tensor:
    for axis, kept in cuts.items():
        if kept.step > 0:
            window = slice(kept.start, kept.start + len(kept) * kept.step, kept.step)
            x = x[(slice(None),) * axis + (window,)]
        else:
            picks = torch.arange(len(kept), device=x.device) * kept.step + kept.start
            x = torch.index_select(x, axis, picks)
    return x


def _sliced_attributes(
    x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    return _sliced(x, starts, ends, axes)


@register("Slice", since=1, infer=_sliced_attributes, unsigned=True, strided=True)
def slice_attributes(
    x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    return _slice(x, _cuts(x, starts, ends, axes, None))


@register("Slice", since=10, host=(1, 2, 3, 4), infer=_sliced, unsigned=True, strided=True)
def slice_inputs(
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    return _slice(x, _cuts(x, starts, ends, axes, steps))


def _from_start(indices: Tensor, extent: int) -> Tensor:
    """Indices from 0 on; ONNX counts negative ones from the end.

    Raises:
        IndexError: one is beyond the axis. A GPU is not waited for to see it, and what
            torch.compile makes a graph of has no numbers yet.
    """
    indices = indices.long()
    known = indices.device.type == "cpu" and not torch.compiler.is_compiling()
    if known and indices.numel():
        least, most = (int(end) for end in torch.aminmax(indices))
        if least < -extent or most >= extent:
            found = least if least < -extent else most
            raise IndexError(f"index {found} is out of bounds for an axis of {extent}")
    return torch.where(indices < 0, indices + extent, indices)


def _gathered(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis = axis_of(axis, x.dim())
    return meta((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


@register("Gather", since=1, infer=_gathered, unsigned=True)
def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis = axis_of(axis, x.dim())
    flat = _from_start(indices, x.shape[axis]).reshape(-1)
    picked = torch.index_select(x, axis, flat)
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _like_indices(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis_of(axis, x.dim())
    return meta(indices.shape, x.dtype)


@register("GatherElements", since=11, infer=_like_indices)
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return torch.gather(x, axis, _from_start(indices, x.shape[axis]))


def _gathered_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    depth = indices.shape[-1]
    if batch_dims + depth > x.dim():
        raise ValueError(f"indices of {depth} axes after {batch_dims} on rank {x.dim()}")
    return meta((*indices.shape[:-1], *x.shape[batch_dims + depth :]), x.dtype)


@register("GatherND", since=11, infer=_gathered_nd)
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """indices [*batch, ..., depth]: each row names a place on the `depth` axes after the batch."""
    shape = _gathered_nd(x, indices, batch_dims=batch_dims).shape
    batch = math.prod(x.shape[:batch_dims])
    rows = indices.reshape(batch, -1, indices.shape[-1])
    flat = x.reshape(batch, *x.shape[batch_dims:])
    sample = torch.arange(batch, device=x.device).unsqueeze(1)
    where = [_from_start(rows[..., i], flat.shape[1 + i]) for i in range(rows.shape[-1])]
    return flat[(sample, *where)].reshape(shape)


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@register("Scatter", since=9, infer=like_first)
@register("ScatterElements", since=11, infer=like_first)
def scatter_elements(
    x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    places = _from_start(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCE[reduction])


@register("ScatterND", since=11, infer=like_first)
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """x with updates [..., *rest] at the places that the rows of indices [..., depth] name."""
    depth = indices.shape[-1]
    place = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for i in range(depth):
        place = place * x.shape[i] + _from_start(indices[..., i], x.shape[i])
    rows = math.prod(x.shape[:depth])
    each = math.prod(x.shape[depth:])
    # Sizes in full, since of nothing -1 could be anything.
    flat, new = x.reshape(rows, each), updates.reshape(place.numel(), each)
    index = place.reshape(-1, 1).expand(-1, each)
    if reduction == "none":
        return flat.scatter(0, index, new).reshape(x.shape)
    return flat.scatter_reduce(0, index, new, _REDUCE[reduction]).reshape(x.shape)


@register("ReverseSequence", since=10, infer=like_first)
def reverse_sequence(
    x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """The first lengths[i] steps of sequence i, backwards; those after it stay."""
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    step = torch.arange(moved.shape[1], device=x.device)
    length = lengths.unsqueeze(1)
    source = torch.where(step < length, length - 1 - step, step)
    sequence = torch.arange(moved.shape[0], device=x.device).unsqueeze(1)
    return moved[sequence, source].movedim((0, 1), (batch_axis, time_axis))
