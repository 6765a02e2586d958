"""Normalisation: ONNX BatchNormalization and its relatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import axis_of, broadcast_shapes, like_first, meta
from fastgan.ops.registry import register


def _channels(parameter: Tensor, like: Tensor) -> Tensor:
    """A parameter per channel [C], or per element [C, *size] as opset 8 could have it."""
    if parameter.dim() > 1:
        return parameter.unsqueeze(0)
    return parameter.reshape(-1, *[1] * (like.dim() - 2))


def _batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> Tensor:
    factor = scale * torch.rsqrt(variance + epsilon)
    return (x * _channels(factor, x) + _channels(bias - mean * factor, x)).to(x.dtype)


def _batch_norm_outputs(
    x: Tensor, *parameters: Tensor, training_mode: int = 0, **attributes: float
) -> Tensor | tuple[Tensor, ...]:
    y = like_first(x)
    if not training_mode:
        return y
    return y, *(meta(p.shape, p.dtype) for p in parameters[2:4])


@register(
    "BatchNormalization",
    since=1,
    infer=_batch_norm_outputs,
    fresh=True,
    also=("spatial", "is_test", "consumed_inputs"),
)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    **_: Any,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """With training_mode the batch's own statistics are used, and the running ones updated.

    Before opset 14 one output means inference.
    """
    if not training_mode:
        return _batch_norm(x, scale, bias, mean, variance, epsilon)
    axes = [0, *range(2, x.dim())]
    batch_mean = x.mean(axes)
    batch_variance = x.var(axes, unbiased=False)
    y = _batch_norm(x, scale, bias, batch_mean, batch_variance, epsilon)
    running_mean = mean * momentum + batch_mean * (1 - momentum)
    running_variance = variance * momentum + batch_variance * (1 - momentum)
    return y, running_mean.to(mean.dtype), running_variance.to(variance.dtype)


def _standardise(x: Tensor, axes: list[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """x with mean 0 and variance 1 over `axes`; that mean, and 1 / deviation."""
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    return centred * inverse, mean, inverse


def group_norm(
    x: Tensor, groups: int, gamma: Tensor | None, beta: Tensor | None, epsilon: float
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, on any device and in any layout.

    Args:
        x: [N, C, *size].
        groups: of channels; each has a mean and a variance in each sample.
        gamma, beta: [C], or None.
        epsilon: added to the variance.
    """
    if cancels(x) or x.shape[2:].numel() == 1:
        means = x.float().mean(tuple(range(2, x.dim())), keepdim=True)
        size = x.shape[1] // groups
        centre = means.unflatten(1, (groups, size)).mean(2).repeat_interleave(size, 1)
        x = x - centre.to(x.dtype)
    # Not torch.nn.functional's: of one value that raises an error about training.
    return torch.group_norm(x, groups, gamma, beta, epsilon)


def cancels(x: Tensor) -> bool:
    """Whether torch's group norm takes sums of squares of it.

    It does so of images that lie channels last on a CPU, in float32. Where a channel's mean is a
    hundred times its deviation, two digits are left.
    """
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return last and x.device.type == "cpu" and x.numel() > 0


@register("InstanceNormalization", since=1, infer=like_first)
def instance_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = 1e-5,
    consumed_inputs: Sequence[int] = (),
) -> Tensor:
    y, _, _ = _standardise(x, list(range(2, x.dim())), epsilon)
    return y * _channels(scale, x) + _channels(bias, x)


@register("GroupNormalization", since=18, infer=like_first, also=("epsilon", "stash_type"))
def group_normalization_per_group(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, **how: Any
) -> Tensor:
    """scale and bias [num_groups]."""
    size = x.shape[1] // num_groups
    scale, bias = scale.repeat_interleave(size), bias.repeat_interleave(size)
    return group_normalization(x, scale, bias, num_groups=num_groups, **how)


@register("GroupNormalization", since=21, infer=like_first)
def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """scale and bias [C]."""
    y = group_norm(_stash(x, stash_type), num_groups, None, None, epsilon).to(x.dtype)
    return y * _channels(scale, x) + _channels(bias, x)


def _stash(x: Tensor, stash_type: int) -> Tensor:
    """x in the precision of the statistics: ONNX names float32 (1) for the 16-bit types."""
    return x.float() if stash_type == 1 and x.element_size() < 4 else x


def _layer_norm_outputs(
    x: Tensor,
    *parameters: Tensor | None,
    axis: int = -1,
    stash_type: int = 1,
    num_outputs: int = 1,
    **attributes: float,
) -> Tensor | tuple[Tensor, ...]:
    axis = axis_of(axis, x.dim())
    for parameter in parameters:
        if parameter is not None and broadcast_shapes(x.shape, parameter.shape) != tuple(x.shape):
            raise ValueError(f"{tuple(parameter.shape)} does not broadcast to {tuple(x.shape)}")
    y = like_first(x)
    if num_outputs == 1:
        return y
    rows = [*x.shape[:axis], *[1] * (x.dim() - axis)]
    wide = torch.float32 if stash_type == 1 and x.element_size() < 4 else x.dtype
    return y, meta(rows, wide), meta(rows, wide)


# Norms that `fastgan.model.plain` makes of ONNX Runtime's own, in files of any opset: ONNX has the
# first from opset 17 on, the second from 23.
@register("LayerNormalization", since=1, infer=_layer_norm_outputs)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    num_outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    wide = _stash(x, stash_type)
    if num_outputs == 1:
        y = F.layer_norm(wide, x.shape[axis:], None, None, epsilon)
        mean = inverse = y
    else:
        y, mean, inverse = _standardise(wide, list(range(axis_of(axis, x.dim()), x.dim())), epsilon)
    y = y.to(x.dtype) * scale
    y = y if bias is None else y + bias
    return y if num_outputs == 1 else (y, mean, inverse)


@register("RMSNormalization", since=1, infer=like_first)
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return F.rms_norm(_stash(x, stash_type), x.shape[axis:], None, epsilon).to(x.dtype) * scale


@register("LpNormalization", since=1, infer=like_first)
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """x over its norm along `axis`; zeros where that is zero."""
    norm = torch.linalg.vector_norm(x, ord=p, dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@register("MeanVarianceNormalization", since=9, infer=like_first)
def mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    centred = x - x.mean(tuple(axes), keepdim=True)
    deviation = (centred * centred).mean(tuple(axes), keepdim=True).sqrt()
    return centred / (deviation + 1e-9)


@register("LRN", since=1, infer=like_first)
def local_response_normalization(
    x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Tensor:
    """x / (bias + alpha / size * sum of x^2 over `size` neighbouring channels) ^ beta."""
    before = (size - 1) // 2
    channels = x.shape[1]
    # A window beyond all channels sums the same as one that just holds them.
    before, after = min(before, channels), min(size - 1 - before, channels)
    padded = F.pad(x * x, [0, 0] * (x.dim() - 2) + [before, after])
    total = padded.unfold(1, before + after + 1, 1).sum(-1)
    return x / (bias + alpha / size * total) ** beta


def _dropout_outputs(
    x: Tensor,
    ratio: float | None = None,
    training: bool | None = None,
    *,
    num_outputs: int = 1,
    **attributes: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    if training and ratio != 0:
        raise NotImplementedError("Dropout in training mode")
    return x if num_outputs == 1 else (x, meta(x.shape, torch.bool))


@register("Dropout", since=1, infer=_dropout_outputs, elementwise=True)
def dropout_attributes(
    x: Tensor,
    *,
    ratio: float = 0.5,
    is_test: int = 1,
    consumed_inputs: Sequence[int] = (),
    num_outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Inference: the identity, and a mask of ones."""
    return x if num_outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))


@register("Dropout", since=12, host=(1, 2), infer=_dropout_outputs, elementwise=True)
def dropout(
    x: Tensor,
    ratio: float | None = None,
    training: bool | None = None,
    *,
    seed: int = 0,
    num_outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Inference, or a ratio of zero: the identity, and a mask of ones.

    Raises:
        NotImplementedError: in training mode, which draws random numbers.
    """
    _dropout_outputs(x, ratio, training)
    return dropout_attributes(x, num_outputs=num_outputs)
