"""Normalisation that depends on the input: instance, group and layer norm, pixel norm, AdaIN.

Over an image (ONNX InstanceNormalization, GroupNormalization; one group: layer norm over C, H, W)
it takes three launches: means and squared deviations of chunks of pixels, their merger in a fixed
order (Chan, Golub, LeVeque 1983; sums of squares would cancel where the mean is large), and the
application, which is where the epilogue is. Over a pixel's channels (layer norm of tokens, pixel
norm) it takes one. Scale and shift may be per channel, or per image and channel (AdaIN, conditional
batch norm).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .epilogue import Epilogue, finish
from .layout import pitch
from .types import INTERPRETED, Call, Config, Prepared, ceil_div, next_power_of_two

# Chunks of one image: enough programs for small batches, few enough to merge quickly.
MOST_CHUNKS = 64


@triton.jit
def statistics_kernel(
    x,  # [images, pixels, CHANNELS], X_PITCH from pixel to pixel
    means,  # [images, chunks, CHANNELS] float32
    deviations,  # [images, chunks, CHANNELS] float32: sums of squared deviations
    pixels,
    chunks,
    per_chunk,  # pixels
    CHANNELS: tl.constexpr,
    X_PITCH: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    channel_exists = channel < CHANNELS
    image = tl.program_id(0) // chunks
    first = tl.program_id(0) % chunks * per_chunk
    last = tl.minimum(first + per_chunk, pixels)
    x_image = x + image.to(tl.int64) * pixels * X_PITCH + channel[None, :]
    count = 0.0
    mean = tl.zeros((BLOCK_CHANNELS,), dtype=tl.float32)
    deviation = tl.zeros((BLOCK_CHANNELS,), dtype=tl.float32)
    for start in range(first, last, BLOCK_PIXELS):
        pixel = start + tl.arange(0, BLOCK_PIXELS)
        mask = (pixel < last)[:, None] & channel_exists[None, :]
        value = tl.load(x_image + pixel[:, None] * X_PITCH, mask=mask, other=0.0).to(tl.float32)
        here = tl.minimum(last - start, BLOCK_PIXELS).to(tl.float32)
        block_mean = tl.sum(value, axis=0) / here
        apart = tl.where(mask, value - block_mean[None, :], 0.0)
        delta = block_mean - mean
        total = count + here
        deviation += tl.sum(apart * apart, axis=0) + delta * delta * (count * here / total)
        mean += delta * (here / total)
        count = total
    place = tl.program_id(0) * CHANNELS + channel
    tl.store(means + place, mean, mask=channel_exists)
    tl.store(deviations + place, deviation, mask=channel_exists)


@triton.jit
def merge_kernel(
    means,  # [images, chunks, CHANNELS] float32
    deviations,
    gamma,  # [CHANNELS], or [images, CHANNELS] where it is per image; float32
    centre,  # [images, CHANNELS] float32: y = (x - centre) * scale + beta
    scale,
    pixels,
    chunks,
    per_chunk,
    epsilon,
    CHANNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    HAS_GAMMA: tl.constexpr,
    PER_IMAGE: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
    BLOCK_IN_GROUP: tl.constexpr,
):
    IN_GROUP: tl.constexpr = CHANNELS // GROUPS
    image = tl.program_id(0)
    group = tl.program_id(1) * BLOCK_GROUPS + tl.arange(0, BLOCK_GROUPS)
    in_group = tl.arange(0, BLOCK_IN_GROUP)
    channel = group[:, None] * IN_GROUP + in_group[None, :]  # [BLOCK_GROUPS, BLOCK_IN_GROUP]
    exists = (group < GROUPS)[:, None] & (in_group < IN_GROUP)[None, :]
    count = 0.0
    mean = tl.zeros((BLOCK_GROUPS, BLOCK_IN_GROUP), dtype=tl.float32)
    deviation = tl.zeros((BLOCK_GROUPS, BLOCK_IN_GROUP), dtype=tl.float32)
    for chunk in range(chunks):
        place = (image * chunks + chunk) * CHANNELS + channel
        chunk_mean = tl.load(means + place, mask=exists, other=0.0)
        here = tl.minimum(pixels - chunk * per_chunk, per_chunk).to(tl.float32)
        delta = chunk_mean - mean
        total = count + here
        deviation += tl.load(deviations + place, mask=exists, other=0.0)
        deviation += delta * delta * (count * here / total)
        mean += delta * (here / total)
        count = total
    # The channels of a group have equal counts, so the group's mean is the mean of theirs.
    group_mean = tl.sum(mean, axis=1) / IN_GROUP  # [BLOCK_GROUPS]
    apart = tl.where(exists, mean - group_mean[:, None], 0.0)
    variance = tl.sum(deviation + count * apart * apart, axis=1) / (count * IN_GROUP)
    inverse = 1.0 / tl.sqrt_rn(variance + epsilon)
    everywhere = tl.zeros((BLOCK_GROUPS, BLOCK_IN_GROUP), dtype=tl.float32)
    factor = inverse[:, None] + everywhere
    if HAS_GAMMA:
        parameter = channel
        if PER_IMAGE:
            parameter += image * CHANNELS
        factor = factor * tl.load(gamma + parameter, mask=exists, other=0.0)
    tl.store(centre + image * CHANNELS + channel, group_mean[:, None] + everywhere, mask=exists)
    tl.store(scale + image * CHANNELS + channel, factor, mask=exists)


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
    config: Config | None = None,
    **epilogue_fields: Any,
) -> Prepared:
    """See launch."""
    epilogue = Epilogue(**epilogue_fields)
    images, channels, height, width = x.shape
    x_pitch = pitch(x, "x")
    out = epilogue.output(x, tuple(x.shape), out)
    config = config or configs(channels)[0]
    common = {"CHANNELS": channels, "HAS_GAMMA": gamma is not None}
    epilogue_arguments = epilogue.arguments(x, out, beta, residual, flag, slopes)
    if per_pixel:
        if groups > 1 or epilogue.out_format == "float32_nchw":
            raise ValueError("per_pixel: found groups or float32_nchw, needed neither")
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
            **common,
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
    pixels = height * width
    chunks = min(MOST_CHUNKS, ceil_div(pixels, 4 * config.block_m))
    per_chunk = ceil_div(ceil_div(pixels, chunks), config.block_m) * config.block_m
    chunks = ceil_div(pixels, per_chunk)
    means, deviations = x.new_empty((2, images, chunks, channels), dtype=torch.float32)
    centre, scale = x.new_empty((2, images, channels), dtype=torch.float32)
    sizes = {"pixels": pixels, "chunks": chunks, "per_chunk": per_chunk}
    blocks = {"BLOCK_PIXELS": config.block_m, "BLOCK_CHANNELS": config.block_n}
    statistics = {"x": x, "means": means, "deviations": deviations, "CHANNELS": channels}
    statistics["X_PITCH"] = x_pitch
    in_group = next_power_of_two(channels // groups)
    block_groups = max(1, min(next_power_of_two(groups), 256 // in_group))
    merge = {
        "means": means,
        "deviations": deviations,
        "gamma": means if gamma is None else gamma,
        "centre": centre,
        "scale": scale,
        "epsilon": epsilon,
        "GROUPS": groups,
        "PER_IMAGE": any(per_image),
        "BLOCK_GROUPS": block_groups,
        "BLOCK_IN_GROUP": in_group,
        **common,
        **sizes,
    }
    apply = {
        "x": x,
        "centre": centre,
        "scale": scale,
        "pixels": pixels,
        "CHANNELS": channels,
        "X_PITCH": x_pitch,
        "PER_IMAGE": any(per_image),
        **blocks,
        **epilogue_arguments,
    }
    columns = ceil_div(channels, config.block_n)
    single = config.with_(num_warps=1)
    calls = (
        Call(statistics_kernel, (images * chunks, columns), statistics | sizes | blocks, config),
        Call(merge_kernel, (images, ceil_div(groups, block_groups)), merge, single),
        Call(apply_kernel, (images * ceil_div(pixels, config.block_m), columns), apply, config),
    )
    return Prepared(out, calls)


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
    (pixel norm). Other options: epsilon, out, residual, slopes, flag, config, and the fields of
    `epilogue.Epilogue`.
    """
    return prepare(x, gamma, beta, **options).run()
