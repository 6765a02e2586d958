"""Reductions over axes, and running sums and products along one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.infer import axis_of, like_first, meta
from fastgan.ops.registry import register

Axes = tuple[int, ...]


def _axes(x: Tensor, axes: Sequence[int] | int | None, noop_with_empty_axes: int = 0) -> Axes:
    """The axes to reduce, from 0 on: all of them where none are named, unless that is a no-op."""
    axes = [axes] if isinstance(axes, int) else axes
    if axes is None or len(axes) == 0:
        return () if noop_with_empty_axes else tuple(range(x.dim()))
    return tuple(axis_of(axis, x.dim()) for axis in axes)


def _reduced(
    x: Tensor,
    axes: Sequence[int] | None = None,
    *,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    gone = _axes(x, axes, noop_with_empty_axes)
    shape = [1 if i in gone else n for i, n in enumerate(x.shape) if keepdims or i not in gone]
    return meta(shape, x.dtype)


def _reduced_attributes(
    x: Tensor, *, axes: Sequence[int] | None = None, keepdims: int = 1
) -> Tensor:
    return _reduced(x, axes, keepdims=keepdims)


def _sum(x: Tensor, axes: Axes) -> Tensor:
    return x.sum(axes, keepdim=True, dtype=x.dtype)


def _mean(x: Tensor, axes: Axes) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=True)
    count = max(1, math.prod(x.shape[axis] for axis in axes))
    return torch.div(_sum(x, axes), count, rounding_mode="trunc")


def _product(x: Tensor, axes: Axes) -> Tensor:
    for axis in axes:  # torch takes one at a time
        x = x.prod(axis, keepdim=True, dtype=x.dtype)
    return x


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    if dtype is torch.bool:
        return 0, 1
    if dtype.is_floating_point:
        return -math.inf, math.inf
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


def _extreme(x: Tensor, axes: Axes, largest: bool) -> Tensor:
    if any(x.shape[axis] == 0 for axis in axes):
        # The extreme of nothing is the type's own limit.
        shape = [1 if axis in axes else extent for axis, extent in enumerate(x.shape)]
        limit = _limits(x.dtype)[0 if largest else 1]
        return torch.full(shape, limit, dtype=x.dtype, device=x.device)
    return x.amax(axes, keepdim=True) if largest else x.amin(axes, keepdim=True)


def _norm(x: Tensor, axes: Axes) -> Tensor:
    if x.is_floating_point():
        return torch.linalg.vector_norm(x, dim=axes, keepdim=True)
    return _sum(x * x, axes).double().sqrt().to(x.dtype)


def _log_sum_exp(x: Tensor, axes: Axes) -> Tensor:
    if x.is_floating_point():
        return torch.logsumexp(x, axes, keepdim=True)
    return torch.logsumexp(x.double(), axes, keepdim=True).to(x.dtype)


#: Each takes x and the axes from 0 on, at least one, and keeps them with extent 1.
_REDUCTIONS: dict[str, Callable[[Tensor, Axes], Tensor]] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _product,
    "ReduceMax": lambda x, axes: _extreme(x, axes, True),
    "ReduceMin": lambda x, axes: _extreme(x, axes, False),
    "ReduceL1": lambda x, axes: _sum(x.abs(), axes),
    "ReduceL2": _norm,
    "ReduceSumSquare": lambda x, axes: _sum(x * x, axes),
    "ReduceLogSum": lambda x, axes: _sum(x, axes).log().to(x.dtype),
    "ReduceLogSumExp": _log_sum_exp,
}
#: What is left of a reduction over no axes at all: it is taken of each element by itself.
_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "ReduceL1": torch.abs,
    "ReduceL2": torch.abs,
    "ReduceSumSquare": lambda x: x * x,
    "ReduceLogSum": torch.log,
}


def _register(name: str, function: Callable[[Tensor, Axes], Tensor], axes_input: int) -> None:
    of_one = _OF_ONE.get(name)

    def reduce(
        x: Tensor,
        axes: Sequence[int] | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        over = _axes(x, axes, noop_with_empty_axes)
        if not over:
            return of_one(x) if of_one else x
        y = function(x, over)
        return y if keepdims else y.reshape([n for i, n in enumerate(y.shape) if i not in over])

    def reduce_attributes(
        x: Tensor, *, axes: Sequence[int] | None = None, keepdims: int = 1
    ) -> Tensor:
        return reduce(x, axes, keepdims=keepdims)

    register(name, since=1, infer=_reduced_attributes)(reduce_attributes)
    register(name, since=axes_input, host=(1,), infer=_reduced)(reduce)


for _name, _function in _REDUCTIONS.items():
    # The opset from which the axes are an input.
    _register(_name, _function, 13 if _name == "ReduceSum" else 18)


def _running(
    x: Tensor, axis: Any, exclusive: int, reverse: int, run: Callable[..., Tensor], neutral: float
) -> Tensor:
    axis = axis_of(axis[0] if isinstance(axis, list) else axis, x.dim())
    if reverse:
        x = x.flip(axis)
    if exclusive:
        # Shifted by one: what comes before each element.
        first = torch.full_like(x.narrow(axis, 0, min(1, x.shape[axis])), neutral)
        x = torch.cat((first, x.narrow(axis, 0, max(0, x.shape[axis] - 1))), axis)
    y = run(x, axis, dtype=x.dtype)
    return y.flip(axis) if reverse else y


@register("CumSum", since=11, host=(1,), infer=like_first)
def cumulative_sum(x: Tensor, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _running(x, axis, exclusive, reverse, torch.cumsum, 0)


@register("CumProd", since=26, host=(1,), infer=like_first)
def cumulative_product(x: Tensor, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _running(x, axis, exclusive, reverse, torch.cumprod, 1)
