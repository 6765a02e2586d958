"""Normalisation that depends on the input: instance, group and layer norm, pixel norm, AdaIN.

Over an image (ONNX InstanceNormalization, GroupNormalization; one group: layer norm over C, H, W)
it takes three launches: statistics of chunks of pixels (`statistics.py`; none where the convolution
that made the image has measured it), their merger (`merge.py`), and the application, which is where
the epilogue is. Over a pixel's channels (layer norm of tokens, pixel norm) it takes one. Scale and
shift may be per channel, or per image and channel (AdaIN, conditional batch norm).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import merge as merging
from . import statistics as measuring
from .epilogue import Epilogue, finish
from .layout import pitch
from .statistics import Statistics
from .types import INTERPRETED, Call, Config, Prepared, ceil_div, next_power_of_two


@triton.jit
def apply_kernel(
    x,  # [images, pixels, CHANNELS], X_PITCH from pixel to pixel
    centre,  # [images, CHANNELS] float32
    scale,
    out,  # [images, pixels, CHANNELS], or as OUT_FORMAT says
    residual,  # like out
    bias,  # [CHANNELS], or [images, CHANNELS] where it is per image; float32: beta
    slopes,  # [CHANNELS] float32: of a prelu
    flag,
    pixels,
    low,
    high,
    CHANNELS: tl.constexpr,
    X_PITCH: tl.constexpr,
    PER_IMAGE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    HAS_FLAG: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    OUT_FORMAT: tl.constexpr,
    OUT_PITCH: tl.constexpr,  # elements from one pixel to the next
    RESIDUAL_PITCH: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    tiles = (pixels + BLOCK_PIXELS - 1) // BLOCK_PIXELS
    image = tl.program_id(0) // tiles
    pixel = tl.program_id(0) % tiles * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    channel = (tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS))[None, :]
    channel_exists = channel < CHANNELS
    mask = (pixel < pixels)[:, None] & channel_exists
    place = image.to(tl.int64) * pixels + pixel[:, None]  # [BLOCK_PIXELS, 1]
    value = tl.load(x + place * X_PITCH + channel, mask=mask, other=0.0).to(tl.float32)
    value -= tl.load(centre + image * CHANNELS + channel, mask=channel_exists, other=0.0)
    value *= tl.load(scale + image * CHANNELS + channel, mask=channel_exists, other=0.0)
    offset = place * OUT_PITCH + channel
    if OUT_FORMAT == "float32_nchw":
        offset = image.to(tl.int64) * pixels * CHANNELS + channel * pixels + pixel[:, None]
    residual_offset = place * RESIDUAL_PITCH + channel
    parameter = channel
    if PER_IMAGE:
        parameter += image * CHANNELS
    finish(
        value,
        parameter,
        channel_exists,
        offset,
        residual_offset,
        mask,
        out,
        bias,
        residual,
        slopes,
        flag,
        low,
        high,
        HAS_BIAS,
        RESIDUAL,
        HAS_FLAG,
        ACTIVATION,
        SLOPE,
        OUT_FORMAT,
        INTERPRETED,
    )


@triton.jit
def pixel_kernel(
    x,  # [pixels, CHANNELS], X_PITCH from pixel to pixel
    gamma,  # [CHANNELS] float32
    out,  # [pixels, CHANNELS]
    residual,  # like out
    bias,  # [CHANNELS] float32: beta
    slopes,  # [CHANNELS] float32: of a prelu
    flag,
    pixels,
    epsilon,
    low,
    high,
    CHANNELS: tl.constexpr,
    X_PITCH: tl.constexpr,
    CENTRE: tl.constexpr,  # whether the mean is taken away (layer norm) or not (pixel norm)
    HAS_GAMMA: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    HAS_FLAG: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    OUT_FORMAT: tl.constexpr,
    OUT_PITCH: tl.constexpr,  # elements from one pixel to the next
    RESIDUAL_PITCH: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    pixel = tl.program_id(0) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    channel_exists = channel < CHANNELS
    mask = (pixel < pixels)[:, None] & channel_exists
    place = pixel.to(tl.int64)[:, None]
    offset = place * OUT_PITCH + channel
    residual_offset = place * RESIDUAL_PITCH + channel
    value = tl.load(x + place * X_PITCH + channel, mask=mask, other=0.0).to(tl.float32)
    if CENTRE:
        mean = tl.sum(value, axis=1) / CHANNELS
        value = tl.where(mask, value - mean[:, None], 0.0)
    variance = tl.sum(value * value, axis=1) / CHANNELS
    value = value * (1.0 / tl.sqrt_rn(variance + epsilon))[:, None]
    if HAS_GAMMA:
        value = value * tl.load(gamma + channel, mask=channel_exists, other=0.0)
    finish(
        tl.where(mask, value, 0.0),
        channel,
        channel_exists,
        offset,
        residual_offset,
        mask,
        out,
        bias,
        residual,
        slopes,
        flag,
        low,
        high,
        HAS_BIAS,
        RESIDUAL,
        HAS_FLAG,
        ACTIVATION,
        SLOPE,
        OUT_FORMAT,
        INTERPRETED,
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
    epilogue_arguments = epilogue.arguments(x, out, beta, residual, flag, slopes)
    if per_pixel:
        if groups > 1 or epilogue.out_format == "float32_nchw" or statistics is not None:
            raise ValueError("per_pixel: found groups, statistics or float32_nchw, needed none")
        block = next_power_of_two(channels)
        rows = max(1, config.block_m * config.block_n // block)
        arguments = {
            "x": x,
            "gamma": x if gamma is None else gamma,
            "pixels": images * height * width,
            "epsilon": epsilon,
            "CENTRE": subtract_mean,
            "BLOCK_PIXELS": rows,
            "BLOCK_CHANNELS": block,
            "CHANNELS": channels,
            "HAS_GAMMA": gamma is not None,
            "X_PITCH": x_pitch,
            **epilogue_arguments,
        }
        grid = (ceil_div(images * height * width, rows),)
        return Prepared(out, (Call(pixel_kernel, grid, arguments, config),))

    groups = groups or channels
    if channels % groups or not subtract_mean:
        raise ValueError(f"groups: found {groups} of {channels} channels, needed a divisor")
    per_image = [p.dim() == 2 for p in (gamma, beta) if p is not None]
    if len(set(per_image)) > 1:
        raise ValueError("gamma, beta: found one per channel and one per image, needed the same")
    calls: list[Call] = []
    if statistics is None:
        statistics, measure = measuring.prepare(x, config)
        calls.append(measure)
    elif statistics.means.shape[::2] != (images, channels):
        raise ValueError(
            f"statistics: found {tuple(statistics.means.shape)}, needed [{images}, _, {channels}]"
        )
    norm, merge = merging.prepare(statistics, gamma, groups, epsilon)
    pixels = height * width
    apply = {
        "x": x,
        "centre": norm.centre,
        "scale": norm.scale,
        "pixels": pixels,
        "CHANNELS": channels,
        "X_PITCH": x_pitch,
        "PER_IMAGE": any(per_image),
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_CHANNELS": config.block_n,
        **epilogue_arguments,
    }
    grid = (images * ceil_div(pixels, config.block_m), ceil_div(channels, config.block_n))
    return Prepared(out, (*calls, merge, Call(apply_kernel, grid, apply, config)))


def launch(
    x: torch.Tensor,
    gamma: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    """activation(gamma * (x - mean) / sqrt(variance + epsilon) + beta + residual).

    x [N, C, H, W] channels_last; gamma and beta float32 [C], or [N, C], or None. Statistics are of
    each image and group of channels (groups = 0: each channel by itself, which is instance norm);
    with per_pixel of each pixel's channels, and there with subtract_mean=False without the mean
    (pixel norm). Other options: statistics (of x over space, where they are known), epsilon, out,
    residual, slopes, flag, config, and the fields of `epilogue.Epilogue`.
    """
    return prepare(x, gamma, beta, **options).run()
