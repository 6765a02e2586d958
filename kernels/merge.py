"""Statistics of chunks of pixels -> what a norm over space takes from each channel, times what.

Chunks are merged in a fixed order (Chan, Golub, LeVeque 1983), whatever the numbers of their
pixels, so that the result never depends on timing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .statistics import Statistics, record
from .types import INTERPRETED, Call, Config, ceil_div, next_power_of_two

# Channels of a program, where groups are smaller than that: whole lines of memory, many programs.
_CHANNELS = 256 if INTERPRETED else 32
# Values of a step: a few loads in flight in each thread.
_VALUES = 65536 if INTERPRETED else 4096


@dataclass(frozen=True)
class Norm:
    """x -> (x - centre) * scale, both [images, C] float32; gamma is in the scale."""

    centre: torch.Tensor
    scale: torch.Tensor


@triton.jit
def merge_kernel(
    stats,  # Measuring: [images, chunks, CHANNELS] and [images, chunks]
    gamma,  # [images, CHANNELS], gamma_pitch from image to image, 0 where all share one; or None
    centre,  # [images, CHANNELS] float32: y = (x - centre) * scale
    scale,
    chunks,
    gamma_pitch,
    epsilon,
    CHANNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
    BLOCK_IN_GROUP: tl.constexpr,
):
    IN_GROUP: tl.constexpr = CHANNELS // GROUPS
    BLOCK: tl.constexpr = BLOCK_GROUPS * BLOCK_IN_GROUP
    image = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    group = tl.program_id(1) * BLOCK_GROUPS + lane // BLOCK_IN_GROUP
    channel = group * IN_GROUP + lane % BLOCK_IN_GROUP  # [BLOCK]
    exists = (group < GROUPS) & (lane % BLOCK_IN_GROUP < IN_GROUP)
    count = 0.0
    mean = tl.zeros((BLOCK,), dtype=tl.float32)
    deviation = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, chunks, BLOCK_CHUNKS):
        chunk = start + tl.arange(0, BLOCK_CHUNKS)
        row = image.to(tl.int64) * chunks + chunk
        pixels = tl.load(stats.counts + row, mask=chunk < chunks, other=0.0)[:, None]
        place = row[:, None] * CHANNELS + channel[None, :]
        mask = (chunk < chunks)[:, None] & exists[None, :]
        chunk_mean = tl.load(stats.means + place, mask=mask, other=0.0)  # [BLOCK_CHUNKS, BLOCK]
        chunk_deviation = tl.load(stats.deviations + place, mask=mask, other=0.0)
        # A chunk may be of no pixels, and so may all of these be.
        here = tl.sum(pixels)
        here_mean = tl.sum(chunk_mean * pixels, axis=0) / tl.maximum(here, 1.0)
        apart = chunk_mean - here_mean[None, :]
        delta = here_mean - mean
        total = count + here
        share = here / tl.maximum(total, 1.0)
        deviation += tl.sum(chunk_deviation + pixels * apart * apart, axis=0)
        deviation += delta * delta * (count * share)
        mean += delta * share
        count = total
    # The channels of a group have equal counts, so the group's mean is the mean of theirs.
    mean = tl.where(exists, mean, 0.0).reshape(BLOCK_GROUPS, BLOCK_IN_GROUP)
    group_mean = tl.sum(mean, axis=1) / IN_GROUP  # [BLOCK_GROUPS]
    grouped = exists.reshape(BLOCK_GROUPS, BLOCK_IN_GROUP)
    apart = tl.where(grouped, mean - group_mean[:, None], 0.0)
    squares = deviation.reshape(BLOCK_GROUPS, BLOCK_IN_GROUP) + count * apart * apart
    variance = tl.sum(squares, axis=1) / (count * IN_GROUP)
    inverse = 1.0 / tl.sqrt_rn(variance + epsilon)
    everywhere = tl.zeros((BLOCK_GROUPS, BLOCK_IN_GROUP), dtype=tl.float32)
    factor = (inverse[:, None] + everywhere).reshape(BLOCK)
    if gamma is not None:
        row = gamma + image.to(tl.int64) * gamma_pitch
        factor = factor * tl.load(row + channel, mask=exists, other=0.0).to(tl.float32)
    place = image * CHANNELS + channel
    tl.store(centre + place, (group_mean[:, None] + everywhere).reshape(BLOCK), mask=exists)
    tl.store(scale + place, factor, mask=exists)


def row_pitch(parameter: torch.Tensor | None) -> int:
    """Elements from one image's gamma or beta to the next one's; 0 where all share one."""
    return 0 if parameter is None or parameter.dim() == 1 else parameter.stride(0)


def prepare(
    statistics: Statistics, gamma: torch.Tensor | None, groups: int, epsilon: float
) -> tuple[Norm, Call]:
    """The launch that merges them, and where it writes.

    Args:
        statistics: of N images of C channels.
        gamma: [C], or [N, C] with any step from row to row, or None.
        groups: how many the channels are in; each has one mean and one variance.
        epsilon: added to the variance.
    """
    images, chunks, channels = statistics.means.shape
    centre, scale = statistics.means.new_empty((2, images, channels))
    in_group = next_power_of_two(channels // groups)
    block_groups = max(1, min(next_power_of_two(groups), _CHANNELS // in_group))
    block_chunks = max(1, min(next_power_of_two(chunks), _VALUES // (block_groups * in_group)))
    values = {
        "stats": record(statistics),
        "gamma": gamma,
        "centre": centre,
        "scale": scale,
        "chunks": chunks,
        "gamma_pitch": row_pitch(gamma),
        "epsilon": epsilon,
        "CHANNELS": channels,
        "GROUPS": groups,
        "BLOCK_CHUNKS": block_chunks,
        "BLOCK_GROUPS": block_groups,
        "BLOCK_IN_GROUP": in_group,
    }
    config = Config(block_chunks, block_groups * in_group, 1)
    grid = (images, ceil_div(groups, block_groups))
    return Norm(centre, scale), Call(merge_kernel, grid, values, config)
