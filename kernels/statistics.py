"""Statistics of images for norms over space: of chunks of their pixels, channel by channel.

Whoever has an image's values at hand measures them: a convolution its tiles, before it stores them
(`store_statistics`), or a launch of its own that reads the image (`prepare`). `merge.py` makes a
norm of them. A chunk has a mean and a sum of squared deviations from it (Chan, Golub, LeVeque 1983;
sums of squares would cancel where the mean is large).

A convolution measures the values as it rounds them for memory: those are what the norm is applied
to, and the norm is then the same whoever measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .layout import pitch
from .records import Measuring
from .types import Call, Config, box_of, ceil_div

# Chunks of one image: enough programs for small batches, few enough to merge quickly.
MOST_CHUNKS = 64


@dataclass(frozen=True)
class Statistics:
    """Of the chunks of a batch of images.

    Attributes:
        means: [images, chunks, C] float32.
        deviations: [images, chunks, C] float32, sums of squared deviations from the chunk's mean.
        counts: [images, chunks] float32, the pixels of the chunk; may be 0.
    """

    means: torch.Tensor
    deviations: torch.Tensor
    counts: torch.Tensor

    @classmethod
    def within(
        cls, memory: torch.Tensor, images: int, chunks: int, channels: int
    ) -> Statistics | None:
        """Their place in a block of float32; None where there are no chunks."""
        needed = size(images, chunks, channels)
        if memory.dtype != torch.float32 or memory.numel() < needed:
            raise ValueError(
                f"statistics: found {memory.numel()} of {memory.dtype}, needed {needed} of float32"
            )
        if chunks == 0:
            return None
        values = images * chunks * channels
        shape = (images, chunks, channels)
        return cls(
            memory[:values].view(shape),
            memory[values : 2 * values].view(shape),
            memory[2 * values : needed].view(images, chunks),
        )


def size(images: int, chunks: int, channels: int) -> int:
    """How many float32 they take."""
    return images * chunks * (2 * channels + 1)


def record(found: Statistics | None) -> Measuring | None:
    """What a kernel that measures what it stores is told."""
    return None if found is None else Measuring(found.means, found.deviations, found.counts)


def chunks_of(config: Config, images: int, rows: int, columns: int, copies: int = 1) -> int:
    """The tiles of an image where each tile is a whole sum of one image's pixels, else 0.

    Args:
        config: a tiling of the images' pixels: runs of them, or boxes through descriptors.
        images, rows, columns: how many images there are, and their size.
        copies: how often they are tiled: the phases of a transposed convolution.
    """
    if config.split_k > 1:
        return 0
    if config.descriptors:
        box = box_of(images, rows, columns, config.block_m)
        tiles = ceil_div(rows, box[1]) * ceil_div(columns, box[2])
    else:
        box, tiles = (1, 1, config.block_m), ceil_div(rows * columns, config.block_m)
    return tiles * copies if is_of_one_image(config, box[0], rows * columns, images) else 0


def is_of_one_image(config: Config, box_images: int, pixels: int, images: int) -> bool:
    """Whether every tile lies within one of the images of so many pixels."""
    apart = box_images == 1 if config.descriptors else pixels % config.block_m == 0
    return images == 1 or apart


@triton.jit
def store_statistics(
    value,  # [BLOCK_PIXELS, BLOCK_COLUMNS]: what a tile of one image's pixels stores
    exists,  # [BLOCK_PIXELS, 1 or BLOCK_COLUMNS]: in the image
    channel,  # [BLOCK_COLUMNS]
    column_exists,  # [BLOCK_COLUMNS]
    chunk,  # its number among those of all images; of the tile, or [BLOCK_COLUMNS]
    stats,  # Measuring
    CHANNELS: tl.constexpr,
):
    """The statistics of a tile, column by column; whoever has some of a chunk stores its count."""
    value = tl.where(exists, value.to(tl.float32), 0.0)
    count = tl.sum(exists.to(tl.float32), axis=0) + tl.zeros(channel.shape, tl.float32)
    mean = tl.sum(value, axis=0) / tl.maximum(count, 1.0)
    apart = tl.where(exists, value - mean[None, :], 0.0)
    chunk = chunk.to(tl.int64) + tl.zeros(channel.shape, tl.int64)
    place = chunk * CHANNELS + channel
    tl.store(stats.means + place, mean, mask=column_exists)
    tl.store(stats.deviations + place, tl.sum(apart * apart, axis=0), mask=column_exists)
    tl.store(stats.counts + chunk, count, mask=column_exists)


@triton.jit
def statistics_kernel(
    x,  # [images, pixels, CHANNELS], X_PITCH from pixel to pixel
    stats,  # Measuring: [images, chunks, CHANNELS] and [images, chunks]
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
    tl.store(stats.means + place, mean, mask=channel_exists)
    tl.store(stats.deviations + place, deviation, mask=channel_exists)
    tl.store(stats.counts + tl.program_id(0), count)


def prepare(x: torch.Tensor, config: Config) -> tuple[Statistics, Call]:
    """The launch that measures x [N, C, H, W], channels last, and where it writes."""
    images, channels, height, width = x.shape
    pixels = height * width
    chunks = min(MOST_CHUNKS, ceil_div(pixels, 4 * config.block_m))
    per_chunk = ceil_div(ceil_div(pixels, chunks), config.block_m) * config.block_m
    chunks = ceil_div(pixels, per_chunk)
    memory = x.new_empty(size(images, chunks, channels), dtype=torch.float32)
    found = Statistics.within(memory, images, chunks, channels)
    assert found is not None
    values = {
        "x": x,
        "stats": record(found),
        "pixels": pixels,
        "chunks": chunks,
        "per_chunk": per_chunk,
        "CHANNELS": channels,
        "X_PITCH": pitch(x, "x"),
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_CHANNELS": config.block_n,
    }
    grid = (images * chunks, ceil_div(channels, config.block_n))
    return found, Call(statistics_kernel, grid, values, config)
