"""Activations: ONNX operators that map each element, or a row of them, through a curve."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import like_first
from fastgan.ops.registry import register


@register("Relu", since=1, infer=like_first)
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@register("LeakyRelu", since=1, infer=like_first)
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


@register("PRelu", since=1, infer=like_first)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * slope)


@register("Tanh", since=1, infer=like_first)
def tanh(x: Tensor) -> Tensor:
    return torch.tanh(x)


@register("Sigmoid", since=1, infer=like_first)
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@register("Elu", since=1, infer=like_first)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


@register("Selu", since=1, infer=like_first)
def selu(
    x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Tensor:
    return gamma * F.elu(x, alpha)


@register("Softplus", since=1, infer=like_first)
def softplus(x: Tensor) -> Tensor:
    return F.softplus(x)


@register("HardSigmoid", since=1, infer=like_first)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (x * alpha + beta).clamp(0, 1)


@register("HardSwish", since=14, infer=like_first)
def hard_swish(x: Tensor) -> Tensor:
    return F.hardswish(x)


@register("Gelu", since=20, infer=like_first)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


@register("Swish", since=24, infer=like_first)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return x * torch.sigmoid(alpha * x)


@register("Clip", since=6, infer=like_first)
def clip_attributes(x: Tensor, *, min: float | None = None, max: float | None = None) -> Tensor:
    return x if min is None and max is None else torch.clamp(x, min, max)


@register("Clip", since=11, infer=like_first)
def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@register("Softmax", since=13, infer=like_first)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)


@register("Softmax", since=1, infer=like_first)
def softmax_flattened(x: Tensor, *, axis: int = 1) -> Tensor:
    """Before opset 13 all axes from `axis` on are normalised together."""
    start = axis % max(x.dim(), 1)
    return torch.softmax(x.flatten(start), start).reshape(x.shape)
