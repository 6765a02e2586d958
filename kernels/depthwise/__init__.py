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

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from .. import tiles
from ..conv.kernel import source
from ..epilogue import Epilogue, finish
from ..layout import pitch
from ..modulation import UNMODULATED, Modulation, modulate_output
from ..types import INTERPRETED, Call, Config, Prepared, capability_of, ceil_div, next_power_of_two
from .weight import PackedWeight, pack, pack_transposed

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


class Strips(NamedTuple):
    """`at`: the sizes of the images, and how they are tiled."""

    images: int
    height: int
    width: int
    out_height: int
    out_width: int
    strips: int  # of ROWS output rows of a phase, in an image
    columns: int  # output columns per phase


class Layer(NamedTuple):
    """What is computed; of a pair of numbers, h is of rows and w of columns."""

    channels: int
    x_pitch: int  # elements from one pixel of x to the next
    shared: bool  # all channels have one filter
    taps_h: int
    taps_w: int
    phases_h: int
    phases_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    origin_h: int  # phase p begins to read at (p + origin) // phases - (taps - 1)
    origin_w: int
    pad_mode: str
    upsample: bool
    scale_out_pitch: int  # 0: all samples share one


@triton.jit
def depthwise_kernel(
    x,  # [images, height, width, CHANNELS]
    weight,  # [phases, taps_h, taps_w, CHANNELS, or 1 where shared] float32
    at,  # Strips
    mod,  # Modulating
    to,  # Output: [images, out_height, out_width, CHANNELS], or as end.out_format says
    layer: tl.constexpr,  # Layer
    end: tl.constexpr,  # End
    ROWS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    CHANNELS: tl.constexpr = layer.channels
    FILTERS: tl.constexpr = 1 if layer.shared else CHANNELS
    TAPS_H: tl.constexpr = layer.taps_h
    TAPS_W: tl.constexpr = layer.taps_w
    STRIDE_H: tl.constexpr = layer.stride_h
    DILATION_H: tl.constexpr = layer.dilation_h
    IN_ROWS: tl.constexpr = (ROWS - 1) * STRIDE_H + (TAPS_H - 1) * DILATION_H + 1
    CHANNEL_TILES: tl.constexpr = (CHANNELS + BLOCK_CHANNELS - 1) // BLOCK_CHANNELS
    tile = tl.program_id(0)
    channel = tile % CHANNEL_TILES * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    channel_exists = channel < CHANNELS
    pixel = tile // CHANNEL_TILES * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    image = pixel // (at.strips * at.columns)
    q_h = pixel % (at.strips * at.columns) // at.columns * ROWS
    q_w = pixel % at.columns
    image64 = image.to(tl.int64)
    x_image = x + image64 * at.height * at.width * layer.x_pitch

    for phase in range(layer.phases_h * layer.phases_w):
        phase_h = phase // layer.phases_w
        phase_w = phase % layer.phases_w
        first_h = q_h * STRIDE_H + (phase_h + layer.origin_h) // layer.phases_h - (TAPS_H - 1)
        first_w = q_w * layer.stride_w + (phase_w + layer.origin_w) // layer.phases_w - (TAPS_W - 1)
        sums = (tl.zeros((BLOCK_PIXELS, BLOCK_CHANNELS), dtype=tl.float32),) * ROWS
        for tap_w in range(TAPS_W):
            in_w = first_w + tap_w * layer.dilation_w
            in_w = source(in_w, at.width, layer)
            inside_w = (in_w >= 0) & (in_w < at.width) & (image < at.images)
            for row in tl.static_range(IN_ROWS):
                if is_read(row, ROWS, STRIDE_H, DILATION_H, TAPS_H):
                    in_h = source(first_h + row, at.height, layer)
                    inside = inside_w & (in_h >= 0) & (in_h < at.height)
                    x_pixel = x_image + (in_h * at.width + in_w) * layer.x_pitch
                    value = tl.load(
                        x_pixel[:, None] + channel[None, :],
                        mask=inside[:, None] & channel_exists[None, :],
                        other=0.0,
                    ).to(tl.float32)  # [BLOCK_PIXELS, BLOCK_CHANNELS]
                    for r in tl.static_range(ROWS):
                        if tap_of(row, r, STRIDE_H, DILATION_H, TAPS_H) >= 0:
                            tap_h = tap_of(row, r, STRIDE_H, DILATION_H, TAPS_H)
                            place = ((phase * TAPS_H + tap_h) * TAPS_W + tap_w) * FILTERS
                            if layer.shared:
                                taps = tl.load(weight + place)
                            else:
                                taps = tl.load(weight + place + channel, channel_exists, 0.0)
                                taps = taps[None, :]
                            total = sums[r] + value * taps
                            sums = sums[:r] + (total,) + sums[r + 1 :]  # noqa: RUF005 - Triton's

        for r in tl.static_range(ROWS):
            out_h = (q_h + r) * layer.phases_h + phase_h
            out_w = q_w * layer.phases_w + phase_w
            pixel_exists = (image < at.images) & (out_h < at.out_height) & (out_w < at.out_width)
            in_image = out_h * at.out_width + out_w
            result = sums[r]
            if mod.scale_in is not None:
                # What scales a channel before its filter may as well scale it behind.
                scale_mask = (image < at.images)[:, None] & channel_exists[None, :]
                scale = (mod.scale_in + image64 * mod.scale_in_pitch)[:, None] + channel[None, :]
                result *= tl.load(scale, scale_mask, other=0.0).to(tl.float32)
            result = modulate_output(
                result,
                mod,
                image,
                channel,
                channel_exists,
                in_image[:, None],
                pixel_exists[:, None],
                at.images,
                True,
                layer.scale_out_pitch,
            )
            plane = at.out_height * at.out_width
            if end.out_format == "float32_nchw":
                offset = (image64 * CHANNELS * plane + in_image)[:, None] + channel[None, :] * plane
            else:
                offset = ((image64 * plane + in_image) * end.out_pitch)[:, None] + channel[None, :]
            residual_offset = (image64 * plane + in_image) * end.residual_pitch
            finish(
                result,
                channel[None, :],
                channel_exists[None, :],
                offset,
                residual_offset[:, None] + channel[None, :],
                pixel_exists[:, None] & channel_exists[None, :],
                to,
                end,
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
    multiprocessors = tiles.multiprocessors_of(capability)

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
        "at": Strips(images, height, width, out_height, out_width, strips, columns),
        "mod": modulation.record(images, (channels, channels), (out_height, out_width)),
        "layer": Layer(
            channels=channels,
            x_pitch=x_pitch,
            shared=packed.data.shape[-1] == 1,
            taps_h=packed.taps[0],
            taps_w=packed.taps[1],
            phases_h=packed.phases[0],
            phases_w=packed.phases[1],
            stride_h=packed.stride[0],
            stride_w=packed.stride[1],
            dilation_h=packed.dilation[0],
            dilation_w=packed.dilation[1],
            origin_h=packed.origin[0],
            origin_w=packed.origin[1],
            pad_mode=packed.pad_mode,
            upsample=packed.upsample,
            scale_out_pitch=modulation.scale_out_pitch,
        ),
        "ROWS": config.block_k,
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_CHANNELS": config.block_n,
        **epilogue.arguments(out, bias, residual, flag, slopes),
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
