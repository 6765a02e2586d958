"""Transposed 2-D convolution (ONNX ConvTranspose, dilation 1, group 1), bias and activation fused.

An output pixel oy = stride * q + phase is reached by the kernel rows ky with
ky = (phase + pad) mod stride, + stride, + 2 stride, ..., each from the input row
iy = q + (phase + pad) // stride - tap. So each of the stride_h * stride_w phases is a small dense
convolution of the input, without the zeros that the textbook definition inserts. All phases run in
one launch, in one of two forms:

- a program per phase: columns are output channels, weights are [phase][tap][c_in][c_out];
- phases in columns, for a few output channels (the image layer): columns are (phase, channel), and
  the taps are the union of all phases' taps, [tap][c_in][phase, c_out] with zeros where a phase
  does not use a tap. k4 s2 p1 with 3 channels: 9 taps and 12 columns, instead of 4 times a product
  whose 3 columns would leave the tensor cores idle.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import persistent, tiles
from . import statistics as measuring
from .conv_transpose_weight import PackedWeight, pack, pack_upsampled, union_of_taps
from .e4m3 import as_factor, dequantising
from .epilogue import Epilogue, finish
from .layout import is_aligned, pitch
from .modulation import (
    UNMODULATED,
    Modulation,
    is_swapped,
    modulate_output,
    scale_input,
)
from .statistics import Statistics, is_of_one_image, store_statistics
from .to_image import prepare_sum
from .types import (
    Call,
    Config,
    Prepared,
    box_of,
    capability_of,
    ceil_div,
    describe,
    describe_weight,
)

__all__ = ["PackedWeight", "configs", "launch", "pack", "pack_upsampled", "prepare"]


@triton.jit
def conv_transpose_kernel(
    x,  # [images, height, width, C_IN]
    weight,  # [(PHASES or 1) * TAPS_H * TAPS_W * C_IN, PITCH]
    residual,  # like out
    bias,  # [C_OUT] float32
    slopes,  # [C_OUT] float32: of a prelu
    out,  # [images, out_height, out_width, C_OUT], or as OUT_FORMAT says
    flag,  # [1] int32
    scale_in,  # [images or 1, C_IN]
    scale_out,  # [images or 1, C_OUT]
    noise,  # [images or 1, out_height, out_width]
    means,  # [tiles, C_OUT] float32: statistics of what is stored, see statistics.py
    deviations,  # [tiles, C_OUT] float32
    counts,  # [tiles] float32
    scale_in_pitch,
    scale_out_pitch: tl.constexpr,
    noise_pitch,
    tiles,
    images,
    height,
    width,
    out_height,
    out_width,
    rows,  # output rows per phase: ceil(out_height / STRIDE_H)
    columns,  # output columns per phase
    low,
    high,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    X_PITCH: tl.constexpr,  # elements from one pixel of x to the next
    PITCH: tl.constexpr,  # columns of weight
    TRANSPOSED: tl.constexpr,  # weight is [PITCH, ...]: wgmma reads 8 bits along the sum alone
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    TAPS_H: tl.constexpr,
    TAPS_W: tl.constexpr,
    NEWEST_H: tl.constexpr,  # the last input row, relative to q, that any phase reads
    NEWEST_W: tl.constexpr,
    PHASES_IN_COLUMNS: tl.constexpr,
    HAS_SCALE_IN: tl.constexpr,
    HAS_SCALE_OUT: tl.constexpr,
    HAS_NOISE: tl.constexpr,
    HAS_STATISTICS: tl.constexpr,
    ONE_IMAGE: tl.constexpr,  # every tile is of one image
    HAS_BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    HAS_FLAG: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    OUT_FORMAT: tl.constexpr,
    OUT_PITCH: tl.constexpr,  # elements from one pixel to the next
    RESIDUAL_PITCH: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
    PERSISTENT: tl.constexpr,  # a program walks over many tiles
    SPLIT_K: tl.constexpr,  # with more than 1, out is float32 [SPLIT_K, images, ..., C_OUT]
    DESCRIPTORS: tl.constexpr,  # x and weight are tensor descriptors, not pointers
    SWAPPED: tl.constexpr,
    BOX_H: tl.constexpr,
    BOX_W: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    PHASES: tl.constexpr = STRIDE_H * STRIDE_W
    COLUMNS: tl.constexpr = C_OUT * PHASES if PHASES_IN_COLUMNS else C_OUT
    COLUMN_TILES: tl.constexpr = (COLUMNS + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS

    # Neighbouring programs share their input pixels: column tile fastest, then phase, then pixels.
    # A program walks over many tiles; or the loop is one turn, which the compiler takes out.
    first = tl.program_id(0)
    last = tiles if PERSISTENT else first + 1
    stride = tl.num_programs(0) if PERSISTENT else 1
    for number in tl.range(first, last, stride, flatten=PERSISTENT):
        column_tile = number % COLUMN_TILES
        tile = number // COLUMN_TILES
        chunk = tile  # of the statistics: a phase of a tile of pixels
        if PHASES_IN_COLUMNS:
            phase_h = 0
            phase_w = 0
            taps_h = TAPS_H
            taps_w = TAPS_W
            base_h = NEWEST_H
            base_w = NEWEST_W
            first_row = 0
        else:
            phase = tile % PHASES
            tile = tile // PHASES
            phase_h = phase // STRIDE_W
            phase_w = phase % STRIDE_W
            if KERNEL_H % STRIDE_H == 0 and KERNEL_W % STRIDE_W == 0:
                taps_h = TAPS_H
                taps_w = TAPS_W
            else:
                # A phase that no kernel row reaches has no taps: its pixels are the bias alone.
                first_h = (phase_h + PAD_H) % STRIDE_H
                first_w = (phase_w + PAD_W) % STRIDE_W
                taps_h = (tl.maximum(KERNEL_H - first_h, 0) + STRIDE_H - 1) // STRIDE_H
                taps_w = (tl.maximum(KERNEL_W - first_w, 0) + STRIDE_W - 1) // STRIDE_W
            base_h = (phase_h + PAD_H) // STRIDE_H
            base_w = (phase_w + PAD_W) // STRIDE_W
            first_row = phase * (TAPS_H * TAPS_W * C_IN)

        pixel = tl.arange(0, BLOCK_PIXELS)  # [BLOCK_PIXELS]
        if DESCRIPTORS:
            # A tile is a box of BOX_H x BOX_W pixels of each of some images.
            BOX_IMAGES: tl.constexpr = BLOCK_PIXELS // (BOX_H * BOX_W)
            boxes_w = (columns + BOX_W - 1) // BOX_W
            boxes_h = (rows + BOX_H - 1) // BOX_H
            first_image = tile // (boxes_w * boxes_h) * BOX_IMAGES
            first_h = tile // boxes_w % boxes_h * BOX_H
            first_w = tile % boxes_w * BOX_W
            image = first_image + pixel // (BOX_H * BOX_W)
            q_h = first_h + pixel // BOX_W % BOX_H
            q_w = first_w + pixel % BOX_W
        else:
            # A tile is a run of the pixels of all images.
            first_image = tile * BLOCK_PIXELS // (rows * columns)
            pixel += tile * BLOCK_PIXELS
            image = pixel // (rows * columns)
            q_h = pixel % (rows * columns) // columns
            q_w = pixel % columns
        pixel_exists = image < images
        column = column_tile * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)  # [BLOCK_COLUMNS]
        k_in_block = tl.arange(0, BLOCK_K)

        CHANNEL_BLOCKS: tl.constexpr = (C_IN + BLOCK_K - 1) // BLOCK_K
        k_total = taps_h * taps_w * C_IN
        if DESCRIPTORS:
            steps = taps_h * taps_w * CHANNEL_BLOCKS
        else:
            steps = (k_total + BLOCK_K - 1) // BLOCK_K
            x_h = q_h + base_h
            x_w = q_w + base_w
            x_pixel = x + ((image.to(tl.int64) * height + x_h) * width + x_w) * X_PITCH
            K_ALL: tl.constexpr = (1 if PHASES_IN_COLUMNS else PHASES) * TAPS_H * TAPS_W * C_IN
            K_STEP: tl.constexpr = 1 if TRANSPOSED else PITCH
            weight_columns = weight + first_row * K_STEP + column * (K_ALL if TRANSPOSED else 1)
        # Hopper sums products of 8 bits in fewer bits than float32's, into which each step adds
        # them.
        MOST_IMPRECISE: tl.constexpr = BLOCK_K if TRANSPOSED else 0
        first_step = 0
        if SPLIT_K > 1:
            per_split = (steps + SPLIT_K - 1) // SPLIT_K
            first_step = tl.program_id(1) * per_split
            steps = tl.minimum(first_step + per_split, steps)

        # Swapped, the input is the second factor, which wgmma reads from shared memory where it is;
        # a reshaped first factor would pass through registers.
        if SWAPPED:
            accumulator = tl.zeros((BLOCK_COLUMNS, BLOCK_PIXELS), dtype=tl.float32)
        else:
            accumulator = tl.zeros((BLOCK_PIXELS, BLOCK_COLUMNS), dtype=tl.float32)
        for step in range(first_step, steps):
            if DESCRIPTORS:
                # Pixels and channels outside of the input are read as zeros.
                tap = step // CHANNEL_BLOCKS
                channel = step % CHANNEL_BLOCKS * BLOCK_K
                in_h = first_h + base_h - tap // taps_w
                in_w = first_w + base_w - tap % taps_w
                a = x.load([first_image, in_h, in_w, channel]).reshape(BLOCK_PIXELS, BLOCK_K)
                k_channel = channel + k_in_block
                row = first_row + tap * C_IN + channel
                if TRANSPOSED:
                    b = weight.load([column_tile * BLOCK_COLUMNS, row]).T
                else:
                    b = weight.load([row, column_tile * BLOCK_COLUMNS])
            elif C_IN % BLOCK_K == 0:
                # A step stays within one tap: its position is a scalar, its rows are contiguous.
                tap = step // CHANNEL_BLOCKS
                channel = step % CHANNEL_BLOCKS * BLOCK_K
                in_h = x_h - tap // taps_w
                in_w = x_w - tap % taps_w
                inside = (in_h >= 0) & (in_h < height) & (in_w >= 0) & (in_w < width) & pixel_exists
                shift = channel - (tap // taps_w * width + tap % taps_w) * X_PITCH
                a = tl.load(
                    x_pixel[:, None] + (shift + k_in_block)[None, :],
                    mask=inside[:, None],
                    other=0.0,
                )  # [BLOCK_PIXELS, BLOCK_K]
                k_channel = channel + k_in_block
                b_pointers = (
                    weight_columns[None, :] + (step * BLOCK_K + k_in_block)[:, None] * K_STEP
                )
                if PITCH % BLOCK_COLUMNS == 0:
                    b = tl.load(b_pointers)  # [BLOCK_K, BLOCK_COLUMNS]
                else:
                    b = tl.load(b_pointers, mask=(column < PITCH)[None, :], other=0.0)
            else:
                k = step * BLOCK_K + k_in_block
                tap = k // C_IN
                tap_h = tap // taps_w
                tap_w = tap % taps_w
                in_h = x_h[:, None] - tap_h[None, :]
                in_w = x_w[:, None] - tap_w[None, :]
                inside = (in_h >= 0) & (in_h < height) & (in_w >= 0) & (in_w < width)
                inside = inside & pixel_exists[:, None] & (k < k_total)[None, :]
                shift = k - tap * C_IN - (tap_h * width + tap_w) * X_PITCH
                a = tl.load(x_pixel[:, None] + shift[None, :], mask=inside, other=0.0)
                k_channel = k % C_IN
                b_mask = (k < k_total)[:, None] & (column < PITCH)[None, :]
                b = tl.load(weight_columns[None, :] + k[:, None] * K_STEP, mask=b_mask, other=0.0)
            if HAS_SCALE_IN:
                a = scale_input(
                    a,
                    scale_in,
                    scale_in_pitch,
                    image,
                    first_image,
                    images,
                    k_channel,
                    C_IN,
                    ONE_IMAGE,
                )
            a = as_factor(a, INTERPRETED)
            b = as_factor(b, INTERPRETED)
            if SWAPPED:
                a, b = b.T, a.T
            accumulator = tl.dot(
                a, b, accumulator, input_precision=PRECISION, max_num_imprecise_acc=MOST_IMPRECISE
            )
        if SWAPPED:
            accumulator = accumulator.T

        if PHASES_IN_COLUMNS:
            column_phase = column // C_OUT
            chunk = chunk * PHASES + column_phase
            channel = column % C_OUT
            out_h = (q_h * STRIDE_H)[:, None] + (column_phase // STRIDE_W)[None, :]
            out_w = (q_w * STRIDE_W)[:, None] + (column_phase % STRIDE_W)[None, :]
            column_exists = column < COLUMNS
        else:
            channel = column
            out_h = (q_h * STRIDE_H + phase_h)[:, None]
            out_w = (q_w * STRIDE_W + phase_w)[:, None]
            column_exists = column < C_OUT
        in_image = (out_h < out_height) & (out_w < out_width) & pixel_exists[:, None]
        mask = in_image & column_exists[None, :]
        image64 = image.to(tl.int64)[:, None]
        if OUT_FORMAT == "float32_nchw":
            plane = out_height * out_width
            offset = (image64 * C_OUT + channel[None, :]) * plane + out_h * out_width + out_w
        else:
            offset = ((image64 * out_height + out_h) * out_width + out_w) * OUT_PITCH
            offset += channel[None, :]
        residual_offset = ((image64 * out_height + out_h) * out_width + out_w) * RESIDUAL_PITCH
        residual_offset += channel[None, :]

        accumulator = modulate_output(
            accumulator,
            scale_out,
            scale_out_pitch,
            noise,
            noise_pitch,
            image,
            channel,
            column_exists,
            out_h * out_width + out_w,
            in_image,
            images,
            tl.program_id(1) == 0,
            HAS_SCALE_OUT,
            HAS_NOISE,
        )
        if SPLIT_K > 1:
            offset += tl.program_id(1).to(tl.int64) * images * out_height * out_width * C_OUT
            tl.store(out + offset, accumulator, mask=mask)
        else:
            stored = finish(
                accumulator,
                channel[None, :],
                column_exists[None, :],
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
            if HAS_STATISTICS:
                store_statistics(
                    stored,
                    in_image,
                    channel,
                    column_exists,
                    chunk,
                    means,
                    deviations,
                    counts,
                    C_OUT,
                )


def configs(
    packed: PackedWeight,
    pixels: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    precision: str = "ieee",
) -> tuple[Config, ...]:
    """The tile configurations worth trying for `pixels` pixels per phase, the default first."""
    product = tiles.Product(
        rows=pixels,
        columns=packed.columns,
        channels=packed.c_in,
        taps=packed.taps[0] * packed.taps[1],
        copies=1 if packed.phases_in_columns else packed.phases,
        dtype=dtype,
        precision=precision,
        # The copy engine needs strides of whole 16 bytes.
        descriptors=packed.c_in * dtype.itemsize % 16 == 0 and packed.c_in >= 16,
    )
    return tiles.configs(product, capability)


def _chunks(packed: PackedWeight, images: int, size: tuple[int, int], config: Config) -> int:
    """The chunks that each image's statistics come in, for phases of this size."""
    return measuring.chunks_of(config, images, *size, copies=packed.phases)


def statistics_size(
    packed: PackedWeight, images: int, height: int, width: int, config: Config
) -> int:
    """The float32 that the statistics of the result take, for inputs of this size; 0: has none."""
    size = packed.output_size(height, width)
    phase = (ceil_div(size[0], packed.stride[0]), ceil_div(size[1], packed.stride[1]))
    # An input that is not aligned is not read through descriptors.
    chunks = (_chunks(packed, images, phase, c) for c in (config, config.with_(descriptors=False)))
    return measuring.size(images, max(chunks), packed.c_out)


def prepare(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    *,
    out: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    modulation: Modulation = UNMODULATED,
    statistics: torch.Tensor | None = None,
    x_scale: float = 1.0,
    flag: torch.Tensor | None = None,
    precision: str = "ieee",
    config: Config | None = None,
    capability: tuple[int, int] | None = None,
    **epilogue_fields: Any,
) -> Prepared:
    """See launch. The capability, which picks the config, is that of x's device unless given."""
    epilogue = Epilogue(**epilogue_fields)
    images, c_in, height, width = x.shape
    if c_in != packed.c_in or x.dtype != packed.data.dtype:
        raise ValueError(
            f"x: found {c_in} channels of {x.dtype}, needed {packed.c_in} of {packed.data.dtype}"
        )
    x_pitch = pitch(x, "x")
    modulation = dequantising(modulation, packed.scale, x_scale)
    out_height, out_width = packed.output_size(height, width)
    out = epilogue.output(x, (images, packed.c_out, out_height, out_width), out)
    rows = ceil_div(out_height, packed.stride[0])
    columns = ceil_div(out_width, packed.stride[1])
    pixels = images * rows * columns
    if config is None:
        capability = capability or capability_of(x.device)
        config = configs(packed, pixels, x.dtype, capability, precision)[0]
    if config.descriptors and not is_aligned(x):
        config = config.with_(descriptors=False)
    measured = None
    if statistics is not None and epilogue.out_format == "nhwc":
        chunks = _chunks(packed, images, (rows, columns), config)
        measured = Statistics.within(statistics, images, chunks, packed.c_out)
    spans = [union_of_taps(packed.kernel[i], packed.stride[i], packed.padding[i]) for i in range(2)]
    box = box_of(images, rows, columns, config.block_m) if config.descriptors else (1, 1, 1)
    arguments = {
        "x": describe(x, (*box, config.block_k)) if config.descriptors else x,
        "weight": describe_weight(packed.data, config, packed.scale is not None)
        if config.descriptors
        else packed.data,
        "images": images,
        "height": height,
        "width": width,
        "out_height": out_height,
        "out_width": out_width,
        "rows": rows,
        "columns": columns,
        "C_IN": c_in,
        "C_OUT": packed.c_out,
        "X_PITCH": x_pitch,
        "PITCH": packed.pitch,
        "TRANSPOSED": packed.scale is not None,
        "KERNEL_H": packed.kernel[0],
        "KERNEL_W": packed.kernel[1],
        "STRIDE_H": packed.stride[0],
        "STRIDE_W": packed.stride[1],
        "PAD_H": packed.padding[0],
        "PAD_W": packed.padding[1],
        "TAPS_H": packed.taps[0],
        "TAPS_W": packed.taps[1],
        "NEWEST_H": spans[0][1],
        "NEWEST_W": spans[1][1],
        "PHASES_IN_COLUMNS": packed.phases_in_columns,
        "PRECISION": precision,
        "SPLIT_K": config.split_k,
        "DESCRIPTORS": config.descriptors,
        "SWAPPED": is_swapped(config, through_registers=modulation.scale_in is not None),
        "BOX_H": box[1],
        "BOX_W": box[2],
        "ONE_IMAGE": is_of_one_image(config, box[0], rows * columns, images),
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_COLUMNS": config.block_n,
        "BLOCK_K": config.block_k,
        **modulation.arguments(x, (c_in, packed.c_out), (out_height, out_width)),
        **measuring.arguments(measured, x),
        **epilogue.arguments(x, out, bias, residual, flag, slopes),
    }
    programs = ceil_div(packed.columns, config.block_n)
    if config.descriptors:
        programs *= ceil_div(images, box[0]) * ceil_div(rows, box[1]) * ceil_div(columns, box[2])
    else:
        programs *= ceil_div(pixels, config.block_m)
    if not packed.phases_in_columns:
        programs *= packed.phases
    arguments |= persistent.arguments(config, programs)
    grid = (persistent.programs(config, programs, x.device), config.split_k)
    if config.split_k == 1:
        main = Call(conv_transpose_kernel, grid, arguments, config)
        return Prepared(out, (main,), measured)
    shape = (config.split_k, images, out_height, out_width, packed.c_out)
    partial = torch.empty(shape, dtype=torch.float32, device=x.device)
    sums = partial.permute(0, 1, 4, 2, 3)
    arguments |= Epilogue().arguments(x, sums[0], None, None, None) | {"out": partial}
    main = Call(conv_transpose_kernel, grid, arguments, config)
    return Prepared(out, (main, prepare_sum(sums, bias, out, epilogue, residual, flag, slopes)))


def launch(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """activation(modulated(conv_transpose2d(x, weight)) + bias).

    x [N, c_in, H, W] channels_last, in the dtype the weights were packed in; bias float32 [c_out].
    x, out and residual may be some of the channels of a wider image. Accumulates in float32.
    A result of e4m3 is float16. Options: out, residual (added to the result), slopes (of a prelu,
    float32 [c_out]), modulation, statistics (float32 memory of `statistics_size` for those of the
    result; `Prepared.statistics` is where they lie in it, None where the tiling has none), x_scale
    (what a 1 of x stands for, where x is e4m3), flag, precision ("ieee", or "tf32" for float32 on
    the tensor cores), config, and the fields of `epilogue.Epilogue`.
    """
    return prepare(x, packed, bias, **options).run()
