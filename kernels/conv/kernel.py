"""The kernel of convolutions, plain and transposed: an implicit matrix product.

The output comes in phases: one, or those of a transposed convolution (see `conv_transpose`), each
of which is a small dense convolution of the input. Pixel (q, phase) of an axis is
phases * q + phase; its tap t reads the input at step * q + base + tap_step * t.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from ..dependent import begin
from ..e4m3 import as_factor
from ..epilogue import finish
from ..modulation import modulate_output, scale_input
from ..prologue import normalise_input
from ..splits import is_last, summed
from ..statistics import store_statistics


class Layer(NamedTuple):
    """What is computed; of a pair of numbers, h is of rows and w of columns."""

    c_in: int
    c_out: int
    x_pitch: int  # elements from one pixel of x to the next
    pitch: int  # columns of weight
    by_columns: bool  # weight is [pitch, ...]: wgmma reads 8 bits along the sum alone
    transposed: bool
    taps_h: int  # the most of any phase, or of the union of all phases
    taps_w: int
    tap_step_h: int
    tap_step_w: int
    base_h: int
    base_w: int
    step_h: int = 1
    step_w: int = 1
    # Of a transposed convolution: its phases, and what their taps and bases follow from.
    phases_h: int = 1
    phases_w: int = 1
    phases_in_columns: bool = False
    kernel_h: int = 0
    kernel_w: int = 0
    pad_h: int = 0
    pad_w: int = 0
    # Of a plain one.
    pad_mode: str = "zeros"
    upsample: bool = False
    shuffle: int = 1
    shuffle_crd: bool = False
    scale_out_pitch: int = 0  # 0: all samples share one
    norm_padded: bool = False  # zeros are read around x
    norm_activation: str = "none"
    norm_slope: float = 0.0


class Tiling(NamedTuple):
    """How it is computed."""

    precision: str
    persistent: bool  # a program walks over many tiles
    split_k: int  # programs that share a tile's sum
    descriptors: bool  # x and weight are tensor descriptors, not pointers
    swapped: bool
    one_image: bool  # every tile is of one image
    box_h: int
    box_w: int
    block_pixels: int
    block_columns: int
    block_k: int
    dependent: bool  # it is launched before the launch before it has ended


@triton.jit
def source(position, size, layer: tl.constexpr):
    """Where a padded and upsampled position lies in an axis; outside of it: < 0 or >= size."""
    if layer.upsample:
        size = size * 2
    if layer.pad_mode == "reflect":
        position = tl.abs(position)
        position = size - 1 - tl.abs(size - 1 - position)
    elif layer.pad_mode == "edge":
        position = tl.minimum(tl.maximum(position, 0), size - 1)
    if layer.upsample:
        position = position >> 1
    return position


@triton.jit
def conv_kernel(
    x,  # [images, height, width, C_IN]
    weight,  # [(phases or 1) * taps * C_IN, PITCH]
    at,  # Place
    norm,  # InputNorm or None
    mod,  # Modulating
    stats,  # Measuring or None
    parts,  # Parts or None
    to,  # Output: [images, out_height, out_width, C_OUT], or as end.out_format says
    layer: tl.constexpr,  # Layer
    end: tl.constexpr,  # End
    how: tl.constexpr,  # Tiling
):
    C_IN: tl.constexpr = layer.c_in
    C_OUT: tl.constexpr = layer.c_out
    PHASES: tl.constexpr = layer.phases_h * layer.phases_w
    BLOCK_PIXELS: tl.constexpr = how.block_pixels
    BLOCK_COLUMNS: tl.constexpr = how.block_columns
    BLOCK_K: tl.constexpr = how.block_k
    COLUMNS: tl.constexpr = C_OUT * PHASES if layer.phases_in_columns else C_OUT
    COLUMN_TILES: tl.constexpr = (COLUMNS + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    CHANNEL_BLOCKS: tl.constexpr = (C_IN + BLOCK_K - 1) // BLOCK_K

    begin(how.dependent)
    # Neighbouring programs share their input pixels: column tile fastest, then phase, then pixels.
    # A program walks over many tiles; or the loop is one turn, which the compiler takes out.
    first = tl.program_id(0)
    last = at.tiles if how.persistent else first + 1
    stride = tl.num_programs(0) if how.persistent else 1
    for number in tl.range(first, last, stride, flatten=how.persistent):
        column_tile = number % COLUMN_TILES
        tile = number // COLUMN_TILES
        chunk = tile  # of the statistics: a phase of a tile of pixels
        phase_h = 0
        phase_w = 0
        taps_h = layer.taps_h
        taps_w = layer.taps_w
        base_h = layer.base_h
        base_w = layer.base_w
        first_row = 0
        if PHASES > 1 and not layer.phases_in_columns:
            phase = tile % PHASES
            tile = tile // PHASES
            phase_h = phase // layer.phases_w
            phase_w = phase % layer.phases_w
            if layer.kernel_h % layer.phases_h != 0 or layer.kernel_w % layer.phases_w != 0:
                # A phase that no kernel row reaches has no taps: its pixels are the bias alone.
                first_h = (phase_h + layer.pad_h) % layer.phases_h
                first_w = (phase_w + layer.pad_w) % layer.phases_w
                taps_h = tl.maximum(layer.kernel_h - first_h, 0)
                taps_w = tl.maximum(layer.kernel_w - first_w, 0)
                taps_h = (taps_h + layer.phases_h - 1) // layer.phases_h
                taps_w = (taps_w + layer.phases_w - 1) // layer.phases_w
            base_h = (phase_h + layer.pad_h) // layer.phases_h
            base_w = (phase_w + layer.pad_w) // layer.phases_w
            first_row = phase * (layer.taps_h * layer.taps_w * C_IN)

        rows = at.rows
        columns = at.columns
        pixel = tl.arange(0, BLOCK_PIXELS)  # [BLOCK_PIXELS]
        if how.descriptors:
            # A tile is a box of pixels of each of some images.
            BOX_IMAGES: tl.constexpr = BLOCK_PIXELS // (how.box_h * how.box_w)
            boxes_w = (columns + how.box_w - 1) // how.box_w
            boxes_h = (rows + how.box_h - 1) // how.box_h
            first_image = tile // (boxes_w * boxes_h) * BOX_IMAGES
            tile_h = tile // boxes_w % boxes_h * how.box_h
            tile_w = tile % boxes_w * how.box_w
            image = first_image + pixel // (how.box_h * how.box_w)
            q_h = tile_h + pixel // how.box_w % how.box_h
            q_w = tile_w + pixel % how.box_w
        else:
            # A tile is a run of the pixels of all images.
            first_image = tile * BLOCK_PIXELS // (rows * columns)
            pixel += tile * BLOCK_PIXELS
            image = pixel // (rows * columns)
            q_h = pixel % (rows * columns) // columns
            q_w = pixel % columns
        pixel_exists = image < at.images
        if not layer.transposed:
            pixel_exists = pixel_exists & (q_h < rows) & (q_w < columns)
        column = column_tile * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)  # [BLOCK_COLUMNS]
        k_in_block = tl.arange(0, BLOCK_K)

        k_total = taps_h * taps_w * C_IN
        if how.descriptors:
            steps = taps_h * taps_w * CHANNEL_BLOCKS
        else:
            steps = (k_total + BLOCK_K - 1) // BLOCK_K
            x_h = q_h * layer.step_h + base_h
            x_w = q_w * layer.step_w + base_w
            if layer.transposed:
                x_pixel = (
                    x + ((image.to(tl.int64) * at.height + x_h) * at.width + x_w) * layer.x_pitch
                )
            else:
                x_image = x + image.to(tl.int64) * at.height * at.width * layer.x_pitch
            K_ALL: tl.constexpr = (
                (1 if layer.phases_in_columns else PHASES) * layer.taps_h * layer.taps_w * C_IN
            )
            K_STEP: tl.constexpr = 1 if layer.by_columns else layer.pitch
            weight_columns = (
                weight + first_row * K_STEP + column * (K_ALL if layer.by_columns else 1)
            )
        first_step = 0
        if how.split_k > 1 or not layer.transposed:
            per_split = (steps + how.split_k - 1) // how.split_k
            first_step = tl.program_id(1) * per_split
            steps = tl.minimum(first_step + per_split, steps)
        # Hopper sums products of 8 bits in fewer bits than float32's, into which each step adds
        # them.
        MOST_IMPRECISE: tl.constexpr = BLOCK_K if layer.by_columns else 0

        # Swapped, the input is the second factor, which wgmma reads from shared memory where it is;
        # a reshaped first factor would pass through registers.
        if how.swapped:
            accumulator = tl.zeros((BLOCK_COLUMNS, BLOCK_PIXELS), dtype=tl.float32)
        else:
            accumulator = tl.zeros((BLOCK_PIXELS, BLOCK_COLUMNS), dtype=tl.float32)
        for step in range(first_step, steps):
            if how.descriptors:
                # Pixels and channels outside of the input are read as zeros.
                tap = step // CHANNEL_BLOCKS
                channel = step % CHANNEL_BLOCKS * BLOCK_K
                in_h = tile_h + base_h + tap // taps_w * layer.tap_step_h
                in_w = tile_w + base_w + tap % taps_w * layer.tap_step_w
                a = x.load([first_image, in_h, in_w, channel]).reshape(BLOCK_PIXELS, BLOCK_K)
                k_channel = channel + k_in_block
                if norm is not None:
                    pixel_h = in_h + pixel // how.box_w % how.box_h
                    pixel_w = in_w + pixel % how.box_w
                    inside = (
                        (pixel_h >= 0)
                        & (pixel_h < at.height)
                        & (pixel_w >= 0)
                        & (pixel_w < at.width)
                    )
                    inside = inside[:, None]
                row = first_row + tap * C_IN + channel
                if layer.by_columns:
                    b = weight.load([column_tile * BLOCK_COLUMNS, row]).T
                else:
                    b = weight.load([row, column_tile * BLOCK_COLUMNS])
            elif C_IN % BLOCK_K == 0:
                # A step stays within one tap: its position is a scalar, its rows are contiguous.
                tap = step // CHANNEL_BLOCKS
                channel = step % CHANNEL_BLOCKS * BLOCK_K
                tap_h = tap // taps_w * layer.tap_step_h
                tap_w = tap % taps_w * layer.tap_step_w
                in_h = source(x_h + tap_h, at.height, layer)
                in_w = source(x_w + tap_w, at.width, layer)
                inside = (in_h >= 0) & (in_h < at.height) & (in_w >= 0) & (in_w < at.width)
                inside = (inside & pixel_exists)[:, None]
                k_channel = channel + k_in_block
                if layer.transposed:
                    shift = channel + (tap_h * at.width + tap_w) * layer.x_pitch
                    a_pointers = x_pixel[:, None] + (shift + k_in_block)[None, :]
                else:
                    a_pixel = x_image + (in_h * at.width + in_w) * layer.x_pitch
                    a_pointers = a_pixel[:, None] + k_channel[None, :]
                a = tl.load(a_pointers, mask=inside, other=0.0)  # [BLOCK_PIXELS, BLOCK_K]
                b_pointers = (
                    weight_columns[None, :] + (step * BLOCK_K + k_in_block)[:, None] * K_STEP
                )
                if layer.pitch % BLOCK_COLUMNS == 0:
                    b = tl.load(b_pointers)  # [BLOCK_K, BLOCK_COLUMNS]
                else:
                    b = tl.load(b_pointers, mask=(column < layer.pitch)[None, :], other=0.0)
            else:
                k = step * BLOCK_K + k_in_block
                tap = k // C_IN
                tap_h = tap // taps_w * layer.tap_step_h
                tap_w = tap % taps_w * layer.tap_step_w
                in_h = x_h[:, None] + tap_h[None, :]
                in_w = x_w[:, None] + tap_w[None, :]
                in_h = source(in_h, at.height, layer)
                in_w = source(in_w, at.width, layer)
                inside = (in_h >= 0) & (in_h < at.height) & (in_w >= 0) & (in_w < at.width)
                inside = inside & pixel_exists[:, None] & (k < k_total)[None, :]
                k_channel = k % C_IN
                if layer.transposed:
                    shift = k_channel + (tap_h * at.width + tap_w) * layer.x_pitch
                    a_pointers = x_pixel[:, None] + shift[None, :]
                else:
                    a_offset = (in_h * at.width + in_w) * layer.x_pitch + k_channel[None, :]
                    a_pointers = x_image[:, None] + a_offset
                a = tl.load(a_pointers, mask=inside, other=0.0)
                b_mask = (k < k_total)[:, None] & (column < layer.pitch)[None, :]
                b = tl.load(weight_columns[None, :] + k[:, None] * K_STEP, mask=b_mask, other=0.0)
            if norm is not None:
                a = normalise_input(
                    a, inside, norm, image, first_image, at.images, k_channel, layer, how
                )
            if mod.scale_in is not None:
                a = scale_input(a, mod, image, first_image, at.images, k_channel, layer, how)
            a = as_factor(a)
            b = as_factor(b)
            if how.swapped:
                a, b = b.T, a.T
            accumulator = tl.dot(
                a,
                b,
                accumulator,
                input_precision=how.precision,
                max_num_imprecise_acc=MOST_IMPRECISE,
            )
        if how.swapped:
            accumulator = accumulator.T

        image64 = image.to(tl.int64)[:, None]
        column_exists = column < COLUMNS
        bias_column = column
        if layer.transposed:
            out_height = at.out_height
            out_width = at.out_width
            channel = column
            out_h = (q_h * layer.phases_h + phase_h)[:, None]
            out_w = (q_w * layer.phases_w + phase_w)[:, None]
            if layer.phases_in_columns:
                column_phase = column // C_OUT
                chunk = chunk * PHASES + column_phase
                channel = column % C_OUT
                out_h = out_h + (column_phase // layer.phases_w)[None, :]
                out_w = out_w + (column_phase % layer.phases_w)[None, :]
            bias_column = channel
            in_image = (out_h < out_height) & (out_w < out_width) & pixel_exists[:, None]
            image_pixel = out_h * out_width + out_w
            if end.out_format == "float32_nchw":
                plane = out_height * out_width
                offset = (image64 * C_OUT + channel[None, :]) * plane + out_h * out_width + out_w
            else:
                offset = ((image64 * out_height + out_h) * out_width + out_w) * end.out_pitch
                offset += channel[None, :]
            residual_offset = (image64 * out_height + out_h) * out_width + out_w
            residual_offset = residual_offset * end.residual_pitch + channel[None, :]
        else:
            CHANNELS: tl.constexpr = C_OUT // (layer.shuffle * layer.shuffle)
            # The place in a square of pixels; without a shuffle, 0.
            square = column // CHANNELS
            channel = column % CHANNELS
            final_w = columns * layer.shuffle
            plane = rows * layer.shuffle * final_w
            place = q_h[:, None] * layer.shuffle * final_w + q_w[:, None] * layer.shuffle
            place += (square // layer.shuffle * final_w + square % layer.shuffle)[None, :]
            if layer.shuffle_crd:
                bias_column = channel * (layer.shuffle * layer.shuffle) + square
            in_image = pixel_exists[:, None]
            image_pixel = (q_h * columns + q_w)[:, None]
            if end.out_format == "float32_nchw":
                offset = (image64 * CHANNELS + channel[None, :]) * plane + place
            else:
                offset = (image64 * plane + place) * end.out_pitch + channel[None, :]
            residual_offset = (image64 * plane + place) * end.residual_pitch + channel[None, :]
            channel = column
        mask = in_image & column_exists[None, :]

        accumulator = modulate_output(
            accumulator,
            mod,
            image,
            channel,
            column_exists,
            image_pixel,
            in_image,
            at.images,
            tl.program_id(1) == 0,
            layer.scale_out_pitch,
        )
        if how.split_k > 1:
            if is_last(
                accumulator, parts, number, at.tiles, BLOCK_PIXELS, BLOCK_COLUMNS, how.split_k
            ):
                finish(
                    summed(parts, number, at.tiles, BLOCK_PIXELS, BLOCK_COLUMNS, how.split_k),
                    bias_column[None, :],
                    column_exists[None, :],
                    offset,
                    residual_offset,
                    mask,
                    to,
                    end,
                )
        else:
            stored = finish(
                accumulator,
                bias_column[None, :],
                column_exists[None, :],
                offset,
                residual_offset,
                mask,
                to,
                end,
            )
            if stats is not None:
                store_statistics(stored, in_image, channel, column_exists, chunk, stats, C_OUT)
