"""Normalisation that depends on the input: instance, group and layer norm, pixel norm, AdaIN.

Over an image (ONNX InstanceNormalization, GroupNormalization; one group: layer norm over C, H, W)
it takes three launches: statistics of chunks of pixels (`statistics.py`; none where the convolution
that made the image has measured it), their merger (`merge.py`), and the application, which is where
the epilogue is. Over a pixel's channels (layer norm of tokens, pixel norm) it takes one. Scale and
shift may be per channel, or per image and channel (AdaIN, conditional batch norm).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from .. import merge as merging
from .. import statistics as measuring
from ..epilogue import Epilogue, finish
from ..layout import pitch
from ..merge import Norm
from ..prologue import Normalised
from ..records import InputNorm
from ..statistics import Statistics
from ..types import INTERPRETED, Call, Config, Prepared, ceil_div, next_power_of_two


class Layer(NamedTuple):
    """What is computed."""

    channels: int
    x_pitch: int  # elements from one pixel of x to the next
    centre: bool = True  # whether the mean is taken away (layer norm) or not (pixel norm)


@triton.jit
def apply_kernel(
    x,  # [images, pixels, CHANNELS]
    pixels,
    norm,  # InputNorm, beta being its shift
    to,  # Output: [images, pixels, CHANNELS], or as end.out_format says
    layer: tl.constexpr,  # Layer
    end: tl.constexpr,  # End
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    CHANNELS: tl.constexpr = layer.channels
    tiles = (pixels + BLOCK_PIXELS - 1) // BLOCK_PIXELS
    image = tl.program_id(0) // tiles
    pixel = tl.program_id(0) % tiles * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    channel = (tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS))[None, :]
    channel_exists = channel < CHANNELS
    mask = (pixel < pixels)[:, None] & channel_exists
    place = image.to(tl.int64) * pixels + pixel[:, None]  # [BLOCK_PIXELS, 1]
    value = tl.load(x + place * layer.x_pitch + channel, mask=mask, other=0.0).to(tl.float32)
    value -= tl.load(norm.centre + image * CHANNELS + channel, mask=channel_exists, other=0.0)
    value *= tl.load(norm.scale + image * CHANNELS + channel, mask=channel_exists, other=0.0)
    offset = place * end.out_pitch + channel
    if end.out_format == "float32_nchw":
        offset = image.to(tl.int64) * pixels * CHANNELS + channel * pixels + pixel[:, None]
    residual_offset = place * end.residual_pitch + channel
    if norm.shift is not None:
        row = norm.shift + image.to(tl.int64) * norm.shift_pitch
        value += tl.load(row + channel, mask=channel_exists, other=0.0)
    finish(value, channel, channel_exists, offset, residual_offset, mask, to, end)


@triton.jit
def pixel_kernel(
    x,  # [pixels, CHANNELS]
    gamma,  # [CHANNELS] float32, or None
    pixels,
    epsilon,
    to,  # Output: [pixels, CHANNELS], beta being its bias
    layer: tl.constexpr,  # Layer
    end: tl.constexpr,  # End
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    CHANNELS: tl.constexpr = layer.channels
    pixel = tl.program_id(0) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    channel_exists = channel < CHANNELS
    mask = (pixel < pixels)[:, None] & channel_exists
    place = pixel.to(tl.int64)[:, None]
    offset = place * end.out_pitch + channel
    residual_offset = place * end.residual_pitch + channel
    value = tl.load(x + place * layer.x_pitch + channel, mask=mask, other=0.0).to(tl.float32)
    if layer.centre:
        mean = tl.sum(value, axis=1) / CHANNELS
        value = tl.where(mask, value - mean[:, None], 0.0)
    variance = tl.sum(value * value, axis=1) / CHANNELS
    value = value * (1.0 / tl.sqrt_rn(variance + epsilon))[:, None]
    if gamma is not None:
        value = value * tl.load(gamma + channel, mask=channel_exists, other=0.0)
    finish(
        tl.where(mask, value, 0.0), channel, channel_exists, offset, residual_offset, mask, to, end
    )


def configs(channels: int) -> tuple[Config, ...]:
    """About 4,096 elements per program, in rows of whole 128-byte lines."""
    block_n = min(next_power_of_two(channels), 1024 if INTERPRETED else 64)
    elements = (65536,) if INTERPRETED else (4096, 8192)
    return tuple(Config(max(1, n // block_n), block_n, 1) for n in elements)


def prepare(
    x: torch.Tensor,
    gamma: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    *,
    groups: int = 0,
    per_pixel: bool = False,
    subtract_mean: bool = True,
    epsilon: float = 1e-5,
    out: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    flag: torch.Tensor | None = None,
    statistics: Statistics | None = None,
    config: Config | None = None,
    **epilogue_fields: Any,
) -> Prepared:
    """See launch."""
    epilogue = Epilogue(**epilogue_fields)
    images, channels, height, width = x.shape
    x_pitch = pitch(x, "x")
    out = epilogue.output(x, tuple(x.shape), out)
    config = config or configs(channels)[0]
    if per_pixel:
        if groups > 1 or epilogue.out_format == "float32_nchw" or statistics is not None:
            raise ValueError("per_pixel: found groups, statistics or float32_nchw, needed none")
        block = next_power_of_two(channels)
        rows = max(1, config.block_m * config.block_n // block)
        arguments = {
            "x": x,
            "gamma": gamma,
            "pixels": images * height * width,
            "epsilon": epsilon,
            "layer": Layer(channels, x_pitch, subtract_mean),
            "BLOCK_PIXELS": rows,
            "BLOCK_CHANNELS": block,
            **epilogue.arguments(out, beta, residual, flag, slopes),
        }
        grid = (ceil_div(images * height * width, rows),)
        return Prepared(out, (Call(pixel_kernel, grid, arguments, config),))

    if not subtract_mean:
        raise ValueError("subtract_mean: found False over space, needed True")
    check_parameter("beta", beta, x)
    norm, calls = _measured(x, gamma, groups, epsilon, statistics, config)
    pixels = height * width
    apply = {
        "x": x,
        "pixels": pixels,
        "norm": InputNorm(norm.centre, norm.scale, beta, merging.row_pitch(beta)),
        "layer": Layer(channels, x_pitch),
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_CHANNELS": config.block_n,
        **epilogue.arguments(out, None, residual, flag, slopes),
    }
    grid = (images * ceil_div(pixels, config.block_m), ceil_div(channels, config.block_n))
    return Prepared(out, (*calls, Call(apply_kernel, grid, apply, config)))


def check_parameter(name: str, parameter: torch.Tensor | None, x: torch.Tensor) -> None:
    """Raises ValueError if it is none of x [N, C, H, W]: [C] or [N, C], each row contiguous."""
    if parameter is None:
        return
    images, channels = x.shape[:2]
    shape = tuple(parameter.shape)
    if shape not in ((channels,), (images, channels)) or parameter.stride(-1) != 1 < channels:
        raise ValueError(
            f"{name}: found {shape} with strides {parameter.stride()}, "
            f"needed [{channels}] or [{images}, {channels}], each row contiguous"
        )


def _measured(
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    groups: int,
    epsilon: float,
    statistics: Statistics | None,
    config: Config,
) -> tuple[Norm, tuple[Call, ...]]:
    """A norm of x over space, and the launches that make it."""
    images, channels = x.shape[:2]
    groups = groups or channels
    check_parameter("gamma", gamma, x)
    if channels % groups:
        raise ValueError(f"groups: found {groups} of {channels} channels, needed a divisor")
    calls: list[Call] = []
    if statistics is None:
        statistics, measure = measuring.prepare(x, config)
        calls.append(measure)
    elif statistics.means.shape[::2] != (images, channels):
        raise ValueError(
            f"statistics: found {tuple(statistics.means.shape)}, needed [{images}, _, {channels}]"
        )
    norm, merge = merging.prepare(statistics, gamma, groups, epsilon)
    return norm, (*calls, merge)


def prepare_unapplied(
    x: torch.Tensor,
    gamma: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    *,
    groups: int = 0,
    epsilon: float = 1e-5,
    activation: str = "none",
    slope: float = 0.0,
    statistics: Statistics | None = None,
    config: Config | None = None,
) -> tuple[Normalised, tuple[Call, ...]]:
    """A norm over space for a convolution to apply, and the launches before that; see launch."""
    config = config or configs(x.shape[1])[0]
    check_parameter("beta", beta, x)
    norm, calls = _measured(x, gamma, groups, epsilon, statistics, config)
    return Normalised(norm, beta, activation, slope), calls


def launch(
    x: torch.Tensor,
    gamma: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    """activation(gamma * (x - mean) / sqrt(variance + epsilon) + beta + residual).

    x [N, C, H, W] channels_last; gamma and beta [C], or [N, C], or None. Statistics are of
    each image and group of channels (groups = 0: each channel by itself, which is instance norm);
    with per_pixel of each pixel's channels, and there with subtract_mean=False without the mean
    (pixel norm). Other options: statistics (of x over space, where they are known), epsilon, out,
    residual, slopes, flag, config, and the fields of `epilogue.Epilogue`.
    """
    return prepare(x, gamma, beta, **options).run()
