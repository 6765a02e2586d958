"""The last step of a generator by itself: bias, activation, and the image format.

Used where the layer before could not write the format: after a library op.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ..epilogue import BUFFERS, Epilogue, finish
from ..types import INTERPRETED, Call, Config, Prepared, ceil_div, next_power_of_two


class Strides(NamedTuple):
    """`at`: sizes and strides of x [images, channels, height, width]."""

    elements: int
    images: int
    height: int
    width: int
    image: int
    channel: int
    row: int
    column: int


class Layer(NamedTuple):
    """What is computed."""

    channels: int
    flat: bool  # input and output lie in the same order


@triton.jit
def to_image_kernel(
    x,  # [images, channels, height, width]
    at,  # Strides
    to,  # Output: [images, channels, height, width] as end.out_format says
    layer: tl.constexpr,  # Layer
    end: tl.constexpr,  # End
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    CHANNELS: tl.constexpr = layer.channels
    tile = tl.program_id(0).to(tl.int64)
    block_channel = tl.arange(0, BLOCK_CHANNELS)
    if layer.flat:
        # Input and output in the same order: whole rows of memory, whatever the channels.
        row = tile * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
        offset = row[:, None] * BLOCK_CHANNELS + block_channel[None, :]
        channel = offset % CHANNELS
        residual_offset = offset
        channel_exists = offset < at.elements
        mask = channel_exists
        pointers = x + offset
    else:
        CHANNEL_TILES: tl.constexpr = (CHANNELS + BLOCK_CHANNELS - 1) // BLOCK_CHANNELS
        channel = ((tile % CHANNEL_TILES) * BLOCK_CHANNELS + block_channel)[None, :]
        pixel = (tile // CHANNEL_TILES) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
        image = pixel // (at.height * at.width)
        in_image = pixel % (at.height * at.width)
        channel_exists = channel < CHANNELS
        mask = (image < at.images)[:, None] & channel_exists
        x_pixel = x + image * at.image
        x_pixel += in_image // at.width * at.row + in_image % at.width * at.column
        pointers = x_pixel[:, None] + channel * at.channel
        if end.out_format == "float32_nchw":
            plane = at.height * at.width
            offset = (image[:, None] * CHANNELS + channel) * plane + in_image[:, None]
        else:
            offset = pixel[:, None] * end.out_pitch + channel
        residual_offset = pixel[:, None] * end.residual_pitch + channel
    value = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    finish(value, channel, channel_exists, offset, residual_offset, mask, to, end)


def is_flat(x: torch.Tensor, out_format: str) -> bool:
    """Whether x [N, C, H, W] lies in the order of the output format."""
    if out_format == "float32_nchw":
        # Across planes a channel is not the index modulo C; only without them is that no matter.
        return x.is_contiguous() and x.shape[1] == 1
    return x.permute(0, 2, 3, 1).is_contiguous()


def configs(channels: int, flat: bool = False) -> tuple[Config, ...]:
    """About 2,048 elements per program: several 16-byte loads in flight in each thread."""
    if INTERPRETED:
        block_n = min(next_power_of_two(channels), 128)
        return (Config(16384 // block_n, block_n, 1),)
    block_n = 64 if flat else min(next_power_of_two(channels), 128)
    return tuple(Config(elements // block_n, block_n, 1) for elements in (2048, 4096))


def prepare(
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    out: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    flag: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    config: Config | None = None,
    out_format: str = "float32_nchw",
    **epilogue_fields: Any,
) -> Prepared:
    """See launch."""
    epilogue = Epilogue(out_format=out_format, **epilogue_fields)
    images, channels, height, width = x.shape
    out = epilogue.output(x, (images, channels, height, width), out)
    written = epilogue.arguments(out, bias, residual, flag, slopes)
    dense = epilogue.out_format not in BUFFERS or written["end"].out_pitch == channels
    dense = dense and written["end"].residual_pitch in (0, channels)
    flat = dense and is_flat(x, epilogue.out_format)
    config = config or configs(channels, flat)[0]
    arguments: dict[str, Any] = {
        "x": x,
        "at": Strides(x.numel(), images, height, width, *x.stride()),
        "layer": Layer(channels, flat),
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_CHANNELS": config.block_n,
        **written,
    }
    pixels = images * height * width
    if flat:
        tiles = ceil_div(pixels * channels, config.block_m * config.block_n)
    else:
        tiles = ceil_div(pixels, config.block_m) * ceil_div(channels, config.block_n)
    return Prepared(out, (Call(to_image_kernel, (tiles,), arguments, config),))


def launch(x: torch.Tensor, bias: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    """activation(x + bias) in an output format.

    x [N, C, H, W] with any strides; bias float32 [C] or None. Options: out, residual (added to the
    result), flag, slopes, config, and the fields of `epilogue.Epilogue` (out_format here defaults
    to "float32_nchw").
    """
    return prepare(x, bias, **options).run()
