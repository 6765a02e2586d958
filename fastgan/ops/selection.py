"""Choosing by values: ONNX ArgMax, ArgMin, TopK, OneHot, NonZero, Unique, Compress; Range."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.infer import axis_of, meta
from fastgan.ops.registry import register


def _places(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    shape = list(x.shape)
    axis = axis_of(axis, x.dim())
    shape[axis : axis + 1] = [1] if keepdims else []
    return meta(shape, torch.int64)


def _best(x: Tensor, axis: int, keepdims: int, last: int, largest: bool) -> Tensor:
    if last:
        x = x.flip(axis)
    # argmax takes any of equals: the first is where the running count of equals begins.
    best = x.amax(axis, keepdim=True) if largest else x.amin(axis, keepdim=True)
    equal = (x == best) | (x != x)
    first = equal.to(torch.uint8).argmax(axis, keepdim=bool(keepdims))
    return x.shape[axis] - 1 - first if last else first


@register("ArgMax", since=1, infer=_places)
def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _best(x, axis, keepdims, select_last_index, True)


@register("ArgMin", since=1, infer=_places)
def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _best(x, axis, keepdims, select_last_index, False)


def _top(
    x: Tensor, k: Any = None, *, axis: int = -1, largest: int = 1, sorted: int = 1, **given: int
) -> tuple[Tensor, Tensor]:
    count = int(given.get("k", k[0] if isinstance(k, list) else k) or 0)
    axis = axis_of(axis, x.dim())
    if not 0 <= count <= x.shape[axis]:
        raise ValueError(f"the top {count} of {x.shape[axis]}")
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return meta(shape, x.dtype), meta(shape, torch.int64)


@register("TopK", since=1, infer=_top)
def top_k_attribute(x: Tensor, *, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    return top_k(x, k, axis=axis)


@register("TopK", since=10, host=(1,), infer=_top)
def top_k(
    x: Tensor, k: Any, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    """The k largest or smallest and their places; of equals the first ones."""
    count = k[0] if isinstance(k, list) else k
    values, places = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)


def _one_hot(indices: Tensor, depth: Any, values: Tensor, *, axis: int = -1) -> Tensor:
    size = int(depth[0] if isinstance(depth, list) else depth)
    axis = axis_of(axis, indices.dim() + 1)
    return meta((*indices.shape[:axis], size, *indices.shape[axis:]), values.dtype)


@register("OneHot", since=9, host=(1,), infer=_one_hot)
def one_hot(indices: Tensor, depth: Any, values: Tensor, *, axis: int = -1) -> Tensor:
    """values [2]: off, on. An index out of range gives a row of off."""
    size = int(depth[0] if isinstance(depth, list) else depth)
    axis = axis_of(axis, indices.dim() + 1)
    wanted = indices.long()
    wanted = torch.where(wanted < 0, wanted + size, wanted).unsqueeze(axis)
    classes = torch.arange(size, device=indices.device)
    column = classes.reshape([-1 if i == axis else 1 for i in range(indices.dim() + 1)])
    return torch.where(wanted == column, values[1], values[0])


def _counted(start: Any, limit: Any, delta: Any) -> int:
    return max(0, math.ceil((limit - start) / delta))


def _arange_shape(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    numbers = [t.item() for t in (start, limit, delta)]
    return meta((_counted(*numbers),), start.dtype)


@register("Range", since=11, infer=_arange_shape, dynamic=True)
def arange(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """start, start + delta, ... below limit, in the dtype of start."""
    count = _counted(start.item(), limit.item(), delta.item())
    steps = torch.arange(count, device=start.device)
    if start.is_floating_point():
        wide = start.double() + steps * delta.double()
        return wide.to(start.dtype)
    return (start.long() + steps * delta.long()).to(start.dtype)


@register("NonZero", since=9, dynamic=True)
def non_zero(x: Tensor) -> Tensor:
    """int64 [rank, count]."""
    found = torch.nonzero(x)
    return found.t() if x.dim() else found.reshape(1, -1)[:, : int(bool(x))]


@register("Unique", since=11, dynamic=True)
def unique(
    x: Tensor, *, axis: int | None = None, sorted: int = 1, num_outputs: int = 1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The distinct elements (or slices along `axis`), where each first is, its place in the
    answer for every element, and how often each occurs.
    """
    dim = None if axis is None else axis_of(axis, x.dim())
    values, inverse, counts = torch.unique(
        x, sorted=True, return_inverse=True, return_counts=True, dim=dim
    )
    inverse = inverse.reshape(-1)
    position = torch.arange(inverse.numel(), device=x.device)
    first = torch.full_like(counts, inverse.numel())
    first = first.scatter_reduce(0, inverse, position, "amin")
    if not sorted:  # in the order of their first occurrence
        order = first.argsort()
        values = values.index_select(0 if dim is None else dim, order)
        first, counts = first[order], counts[order]
        inverse = order.argsort()[inverse]
    return values, first, inverse, counts


@register("Compress", since=9, host=(1,))
def compress(x: Tensor, condition: list[bool], *, axis: int | None = None) -> Tensor:
    """The slices along `axis`, or the elements of the flattened x, where the condition holds."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    kept = [i for i, keep in enumerate(condition) if keep]
    if kept and kept[-1] >= x.shape[axis]:
        raise ValueError(f"a condition of {len(condition)} on {x.shape[axis]} elements")
    return torch.index_select(x, axis, torch.tensor(kept, dtype=torch.int64, device=x.device))
