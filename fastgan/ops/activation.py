"""Activations: ONNX operators that map each element, or a row of them, through a curve."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.elementwise import curves
from fastgan.ops.infer import axis_of, like_first, same
from fastgan.ops.registry import register

curves(
    ("Relu", 1, torch.relu),
    ("Tanh", 1, torch.tanh),
    ("Sigmoid", 1, torch.sigmoid),
    ("Softplus", 1, F.softplus),
    ("Softsign", 1, F.softsign),
    ("HardSwish", 14, F.hardswish),
    ("Mish", 18, F.mish),
)


@register("LeakyRelu", since=1, infer=like_first, elementwise=True, fresh=True)
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


@register("PRelu", since=1, infer=like_first, fresh=True)
def prelu_per_channel(x: Tensor, slope: Tensor) -> Tensor:
    """slope [1] or [C]."""
    if slope.numel() > 1 and x.dim() > 1:
        slope = slope.reshape(-1, *[1] * (x.dim() - 2))
    return prelu(x, slope)


@register("PRelu", since=7, infer=like_first, elementwise=True, fresh=True)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """slope broadcasts to x."""
    return torch.where(x >= 0, x, x * slope)


@register("Elu", since=1, infer=like_first, elementwise=True, fresh=True)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


@register("Celu", since=12, infer=like_first, elementwise=True, fresh=True)
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    if not alpha:
        return torch.relu(x)  # the limit of the curve
    if abs(alpha) >= torch.finfo(torch.float32).tiny:
        return F.celu(x, alpha)
    below = alpha * torch.expm1(x.double() / alpha)  # torch divides 1 by alpha in float32
    return torch.where(x > 0, x, below.to(x.dtype))


@register("Selu", since=1, infer=like_first, elementwise=True, fresh=True)
def selu(
    x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Tensor:
    return gamma * F.elu(x, alpha)


@register("ThresholdedRelu", since=10, infer=like_first, elementwise=True, fresh=True)
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))  # of a NaN 0, unlike F.threshold


@register("Shrink", since=9, infer=like_first, elementwise=True, fresh=True)
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """x moved towards zero by `bias` where |x| > lambd; zero elsewhere, and of a NaN."""
    inner = torch.where(x > lambd, (x - bias).to(x.dtype), torch.zeros_like(x))
    return torch.where(x < -lambd, (x + bias).to(x.dtype), inner)


@register("HardSigmoid", since=1, infer=like_first, elementwise=True, fresh=True)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (x * alpha + beta).clamp(0, 1)


@register("Gelu", since=20, infer=like_first, elementwise=True, fresh=True)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


@register("Swish", since=24, infer=like_first, elementwise=True, fresh=True)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def _clip_bounds(x: Tensor, *bounds: Tensor | float | None, **attributes: float | None) -> Tensor:
    given = [*bounds, *attributes.values()]
    return same(x) if all(bound is None for bound in given) else like_first(x)


@register("Clip", since=6, infer=_clip_bounds, elementwise=True)
def clip_attributes(x: Tensor, *, min: float | None = None, max: float | None = None) -> Tensor:
    return x if min is None and max is None else torch.clamp(x, min, max)


@register("Clip", since=11, infer=_clip_bounds, elementwise=True)
def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Scalar bounds; NaN stays NaN, and where low > high all becomes high."""
    if low is not None:
        x = torch.maximum(x, low.reshape(()))
    return x if high is None else torch.minimum(x, high.reshape(()))


def _along_axis(x: Tensor, *, axis: int = -1) -> Tensor:
    axis_of(axis, x.dim())
    return like_first(x)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    first = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1.0)


for _name, _rows in (
    ("Softmax", torch.softmax),
    ("LogSoftmax", torch.log_softmax),
    ("Hardmax", _hardmax),
):

    def along_axis(x: Tensor, *, axis: int = -1, f: object = _rows) -> Tensor:
        return f(x, axis)  # type: ignore[operator]

    def flattened(x: Tensor, *, axis: int = 1, f: object = _rows) -> Tensor:
        """Before opset 13 all axes from `axis` on are one row."""
        start = axis % max(x.dim(), 1)
        return f(x.flatten(start), start).reshape(x.shape)  # type: ignore[operator]

    register(_name, since=1, infer=like_first, fresh=True)(flattened)
    register(_name, since=13, infer=_along_axis, fresh=True)(along_axis)
