"""Normalisation: ONNX BatchNormalization and its relatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import like_first, meta
from fastgan.ops.registry import register


def _channels(parameter: Tensor, like: Tensor) -> Tensor:
    return parameter.reshape(1, -1, *[1] * (like.dim() - 2))


def _batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> Tensor:
    factor = scale * torch.rsqrt(variance + epsilon)
    return x * _channels(factor, x) + _channels(bias - mean * factor, x)


@register("BatchNormalization", since=7, infer=like_first)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> Tensor:
    return _batch_norm(x, scale, bias, mean, variance, epsilon)


def _batch_norm_outputs(
    x: Tensor, *parameters: Tensor, training_mode: int = 0, **attributes: float
) -> Tensor | tuple[Tensor, ...]:
    y = like_first(x)
    if not training_mode:
        return y
    return y, *(meta(p.shape, p.dtype) for p in parameters[2:4])


@register("BatchNormalization", since=14, infer=_batch_norm_outputs)
def batch_normalization_training(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """With training_mode the batch's own statistics are used, and the running ones updated."""
    if not training_mode:
        return _batch_norm(x, scale, bias, mean, variance, epsilon)
    axes = [0, *range(2, x.dim())]
    batch_mean = x.mean(axes)
    batch_variance = x.var(axes, unbiased=False)
    y = _batch_norm(x, scale, bias, batch_mean, batch_variance, epsilon)
    running_mean = mean * momentum + batch_mean * (1 - momentum)
    running_variance = variance * momentum + batch_variance * (1 - momentum)
    return y, running_mean, running_variance


@register("InstanceNormalization", since=1, infer=like_first)
def instance_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    axes = list(range(2, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    variance = (centred * centred).mean(axes, keepdim=True)
    return centred * torch.rsqrt(variance + epsilon) * _channels(scale, x) + _channels(bias, x)


@register("Dropout", since=1, infer=like_first)
def dropout(
    x: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None, *, seed: int = 0
) -> Tensor:
    """Inference: the identity."""
    return x


@register("LayerNormalization", since=17, infer=like_first)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    shape = x.shape[axis:]
    return F.layer_norm(x, shape, None, None, epsilon) * scale + (0 if bias is None else bias)
