"""Depthwise convolution and depthwise transposed convolution: a filter for each channel by itself.

Mobile networks' convolutions, and StyleGAN's FIR filters, of which all channels have the same one.
There is no matrix product in it, so it runs beside the tensor cores, and what bounds it is memory:
each input pixel should be read from there once. A program therefore computes a strip of several
output rows of some pixels, 16 bytes of channels to a thread: an input row of the strip is read once
for all output rows that it reaches, from registers, and its neighbours to the left and right come
from the cache of first level.

Transposed, every output phase is a plain convolution of the input (see `conv_transpose`), whose
taps are packed in reading order. A program makes all phases of its pixels, one after the other, so
that only the first one reads from memory.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import tiles
from .conv import source
from .depthwise_weight import PackedWeight, pack, pack_transposed
from .epilogue import Epilogue, finish
from .layout import pitch
from .modulation import UNMODULATED, Modulation, modulate_output
from .types import (
    INTERPRETED,
    Call,
    Config,
    Prepared,
    capability_of,
    ceil_div,
    next_power_of_two,
)

__all__ = ["PackedWeight", "configs", "launch", "pack", "pack_transposed", "prepare"]


@triton.constexpr_function
def tap_of(row, out_row, stride, dilation, taps):
    """The tap with which an output row of a strip reads an input row of it; -1: with none."""
    tap, rest = divmod(row - out_row * stride, dilation)
    return tap if rest == 0 and 0 <= tap < taps else -1


@triton.constexpr_function
def is_read(row, rows, stride, dilation, taps):
    """Whether any output row of a strip reads this input row of it."""
    found = [divmod(row - out_row * stride, dilation) for out_row in range(rows)]
    return any(rest == 0 and 0 <= tap < taps for tap, rest in found)


@triton.jit
def depthwise_kernel(
    x,  # [images, height, width, CHANNELS]
    weight,  # [PHASES_H * PHASES_W, TAPS_H, TAPS_W, CHANNELS, or 1 where SHARED] float32
    out,  # [images, out_height, out_width, CHANNELS], or as OUT_FORMAT says
    residual,  # like out
    bias,  # [CHANNELS] float32
    slopes,  # [CHANNELS] float32: of a prelu
    flag,  # [1] int32
    scale_in,  # [images or 1, CHANNELS]
    scale_out,  # [images or 1, CHANNELS]
    noise,  # [images or 1, out_height, out_width]
    scale_in_pitch,
    scale_out_pitch,
    noise_pitch,
    images,
    height,
    width,
    out_height,
    out_width,
    strips,  # of ROWS output rows of a phase, in an image
    columns,  # output columns per phase
    low,
    high,
    CHANNELS: tl.constexpr,
    X_PITCH: tl.constexpr,  # elements from one pixel of x to the next
    SHARED: tl.constexpr,  # all channels have one filter
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    PHASES_H: tl.constexpr,
    PHASES_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    ORIGIN_H: tl.constexpr,  # phase p begins to read at (p + ORIGIN) // PHASES - (TAPS - 1)
    ORIGIN_W: tl.constexpr,
    PAD_MODE: tl.constexpr,
    UPSAMPLE: tl.constexpr,
    HAS_SCALE_IN: tl.constexpr,
    HAS_SCALE_OUT: tl.constexpr,
    HAS_NOISE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    HAS_FLAG: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    OUT_FORMAT: tl.constexpr,
    OUT_PITCH: tl.constexpr,  # elements from one pixel to the next
    RESIDUAL_PITCH: tl.constexpr,
    INTERPRETED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    CHANNEL_TILES: tl.constexpr = (CHANNELS + BLOCK_CHANNELS - 1) // BLOCK_CHANNELS
    FILTERS: tl.constexpr = 1 if SHARED else CHANNELS
    tile = tl.program_id(0)
    channel = tile % CHANNEL_TILES * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    channel_exists = channel < CHANNELS
    pixel = tile // CHANNEL_TILES * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    image = pixel // (strips * columns)
    q_h = pixel % (strips * columns) // columns * ROWS
    q_w = pixel % columns
    image64 = image.to(tl.int64)
    x_image = x + image64 * height * width * X_PITCH

    for phase in range(PHASES_H * PHASES_W):
        phase_h = phase // PHASES_W
        phase_w = phase % PHASES_W
        first_h = q_h * STRIDE_H + (phase_h + ORIGIN_H) // PHASES_H - (TAPS_H - 1)
        first_w = q_w * STRIDE_W + (phase_w + ORIGIN_W) // PHASES_W - (TAPS_W - 1)
        sums = (tl.zeros((BLOCK_PIXELS, BLOCK_CHANNELS), dtype=tl.float32),) * ROWS
        for tap_w in range(TAPS_W):
            in_w = source(first_w + tap_w * DILATION_W, width, PAD_MODE, UPSAMPLE)
            inside_w = (in_w >= 0) & (in_w < width) & (image < images)
            for row in tl.static_range((ROWS - 1) * STRIDE_H + (TAPS_H - 1) * DILATION_H + 1):
                if is_read(row, ROWS, STRIDE_H, DILATION_H, TAPS_H):
                    in_h = source(first_h + row, height, PAD_MODE, UPSAMPLE)
                    inside = inside_w & (in_h >= 0) & (in_h < height)
                    value = tl.load(
                        (x_image + (in_h * width + in_w) * X_PITCH)[:, None] + channel[None, :],
                        mask=inside[:, None] & channel_exists[None, :],
                        other=0.0,
                    ).to(tl.float32)  # [BLOCK_PIXELS, BLOCK_CHANNELS]
                    for r in tl.static_range(ROWS):
                        if tap_of(row, r, STRIDE_H, DILATION_H, TAPS_H) >= 0:
                            tap_h = tap_of(row, r, STRIDE_H, DILATION_H, TAPS_H)
                            place = ((phase * TAPS_H + tap_h) * TAPS_W + tap_w) * FILTERS
                            if SHARED:
                                taps = tl.load(weight + place)
                            else:
                                taps = tl.load(weight + place + channel, channel_exists, 0.0)
                                taps = taps[None, :]
                            total = sums[r] + value * taps
                            sums = sums[:r] + (total,) + sums[r + 1 :]  # noqa: RUF005 - Triton's

        for r in tl.static_range(ROWS):
            out_h = (q_h + r) * PHASES_H + phase_h
            out_w = q_w * PHASES_W + phase_w
            pixel_exists = (image < images) & (out_h < out_height) & (out_w < out_width)
            in_image = out_h * out_width + out_w
            result = sums[r]
            if HAS_SCALE_IN:
                # What scales a channel before its filter may as well scale it behind.
                scale_mask = (image < images)[:, None] & channel_exists[None, :]
                scale = (scale_in + image64 * scale_in_pitch)[:, None] + channel[None, :]
                result *= tl.load(scale, scale_mask, other=0.0).to(tl.float32)
            result = modulate_output(
                result,
                scale_out,
                scale_out_pitch,
                noise,
                noise_pitch,
                image,
                channel,
                channel_exists,
                in_image[:, None],
                pixel_exists[:, None],
                images,
                True,
                HAS_SCALE_OUT,
                HAS_NOISE,
            )
            plane = out_height * out_width
            if OUT_FORMAT == "float32_nchw":
                offset = (image64 * CHANNELS * plane + in_image)[:, None] + channel[None, :] * plane
            else:
                offset = ((image64 * plane + in_image) * OUT_PITCH)[:, None] + channel[None, :]
            residual_offset = (image64 * plane + in_image) * RESIDUAL_PITCH
            finish(
                result,
                channel[None, :],
                channel_exists[None, :],
                offset,
                residual_offset[:, None] + channel[None, :],
                pixel_exists[:, None] & channel_exists[None, :],
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


def configs(packed: PackedWeight, pixels: int, capability: tuple[int, int]) -> tuple[Config, ...]:
    """The configurations worth trying for `pixels` output pixels per phase, the default first.

    `block_m` is pixels of a row, `block_n` channels and `block_k` the rows of a strip.
    """
    columns = next_power_of_two(packed.channels)
    if INTERPRETED:
        # An interpreted program costs about the same whatever its size.
        return (Config(min(1024, max(16, next_power_of_two(pixels))), min(1024, columns), 2),)
    columns = min(64, columns)
    # 8 values to a thread and row: 16 bytes in 16 bits.
    wide = max(4, 1024 // columns)
    strips = [(wide, 4), (wide, 2), (wide, 1), (max(4, wide // 2), 1)]
    if packed.taps[0] == 1:  # nothing to share between rows
        strips = strips[2:]
    multiprocessors = tiles.MULTIPROCESSORS.get(capability, 132)

    def programs(m: int, rows: int) -> int:
        return ceil_div(pixels, m * rows) * ceil_div(packed.channels, columns)

    # The tallest strip with which every multiprocessor still has several programs at work.
    enough = (one for one in strips if programs(*one) >= 4 * multiprocessors)
    default = next(enough, strips[-1])
    return tuple(
        Config(m, columns, rows, num_warps=4 if m * columns >= 1024 else 2)
        for m, rows in dict.fromkeys((default, *strips, (2 * wide, strips[0][1])))
    )


def prepare(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    *,
    out: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    modulation: Modulation = UNMODULATED,
    flag: torch.Tensor | None = None,
    config: Config | None = None,
    capability: tuple[int, int] | None = None,
    **epilogue_fields: Any,
) -> Prepared:
    """See launch. The capability, which picks the config, is that of x's device unless given."""
    epilogue = Epilogue(**epilogue_fields)
    images, channels, height, width = x.shape
    if channels != packed.channels:
        raise ValueError(f"x: found {channels} channels, needed {packed.channels}")
    x_pitch = pitch(x, "x")
    packed.check_reflection(height, width)
    out_height, out_width = packed.output_size(height, width)
    out = epilogue.output(x, (images, channels, out_height, out_width), out)
    rows = ceil_div(out_height, packed.phases[0])
    columns = ceil_div(out_width, packed.phases[1])
    if config is None:
        capability = capability or capability_of(x.device)
        config = configs(packed, images * rows * columns, capability)[0]
    strips = ceil_div(rows, config.block_k)
    arguments = {
        "x": x,
        "weight": packed.data,
        "images": images,
        "height": height,
        "width": width,
        "out_height": out_height,
        "out_width": out_width,
        "strips": strips,
        "columns": columns,
        "CHANNELS": channels,
        "X_PITCH": x_pitch,
        "SHARED": packed.data.shape[-1] == 1,
        "TAPS_H": packed.taps[0],
        "TAPS_W": packed.taps[1],
        "PHASES_H": packed.phases[0],
        "PHASES_W": packed.phases[1],
        "STRIDE_H": packed.stride[0],
        "STRIDE_W": packed.stride[1],
        "DILATION_H": packed.dilation[0],
        "DILATION_W": packed.dilation[1],
        "ORIGIN_H": packed.origin[0],
        "ORIGIN_W": packed.origin[1],
        "PAD_MODE": packed.pad_mode,
        "UPSAMPLE": packed.upsample,
        "ROWS": config.block_k,
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_CHANNELS": config.block_n,
        **modulation.arguments(x, (channels, channels), (out_height, out_width)),
        **epilogue.arguments(x, out, bias, residual, flag, slopes),
    }
    programs = ceil_div(images * strips * columns, config.block_m)
    programs *= ceil_div(channels, config.block_n)
    return Prepared(out, (Call(depthwise_kernel, (programs,), arguments, config),))


def launch(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """activation(modulated(each channel filtered by itself) + bias + residual).

    x [N, C, H, W] channels_last, of any floating-point type; bias float32 [C]. x, out and residual
    may be some of the channels of a wider image. Accumulates in float32.
    Options: out, residual (added to the result), slopes (of a prelu, float32 [C]), modulation,
    flag, config, and the fields of `epilogue.Epilogue`.
    """
    return prepare(x, packed, bias, **options).run()
