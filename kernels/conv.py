"""2-D convolution (ONNX Conv, group 1) as an implicit matrix product.

Padding (zeros, reflected or repeated edges) and nearest upsampling by two before it are arithmetic
on the input's coordinates, and a pixel shuffle after it (ONNX DepthToSpace) on the output's, so
none makes a pass over memory of its own; bias, residual and activation are the epilogue's.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import persistent, prologue, tiles
from . import statistics as measuring
from .conv_weight import PackedWeight, pack
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
from .prologue import Normalised, normalise_input
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

__all__ = ["PackedWeight", "configs", "launch", "pack", "prepare"]


@triton.jit
def source(position, size, PAD_MODE: tl.constexpr, UPSAMPLE: tl.constexpr):
    """Where a padded and upsampled position lies in an axis; outside of it: < 0 or >= size."""
    if UPSAMPLE:
        size = size * 2
    if PAD_MODE == "reflect":
        position = tl.abs(position)
        position = size - 1 - tl.abs(size - 1 - position)
    elif PAD_MODE == "edge":
        position = tl.minimum(tl.maximum(position, 0), size - 1)
    if UPSAMPLE:
        position = position >> 1
    return position


@triton.jit
def conv_kernel(
    x,  # [images, height, width, C_IN]
    weight,  # [KERNEL_H * KERNEL_W * C_IN, PITCH]
    out,  # [images, out_height, out_width, C_OUT], or as OUT_FORMAT says
    residual,  # like out
    bias,  # [C_OUT] float32
    slopes,  # [C_OUT] float32: of a prelu
    flag,  # [1] int32
    scale_in,  # [images or 1, C_IN]
    scale_out,  # [images or 1, C_OUT]
    noise,  # [images or 1, out_height, out_width]
    means,  # [tiles, C_OUT] float32: statistics of what is stored, see statistics.py
    deviations,  # [tiles, C_OUT] float32
    counts,  # [tiles] float32
    norm_centre,  # [images, C_IN] float32: of a norm of x, see prologue.py
    norm_scale,  # [images, C_IN] float32
    norm_shift,  # [C_IN] or [images, C_IN] float32
    norm_shift_pitch,
    scale_in_pitch,
    scale_out_pitch: tl.constexpr,
    noise_pitch,
    tiles,
    images,
    height,
    width,
    out_height,
    out_width,
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
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    PAD_MODE: tl.constexpr,
    UPSAMPLE: tl.constexpr,
    SHUFFLE: tl.constexpr,
    SHUFFLE_CRD: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_NORM_SHIFT: tl.constexpr,
    NORM_PADDED: tl.constexpr,  # zeros are read around x
    NORM_ACTIVATION: tl.constexpr,
    NORM_SLOPE: tl.constexpr,
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
    COLUMN_TILES: tl.constexpr = (C_OUT + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    # A program walks over many tiles; or the loop is one turn, which the compiler takes out.
    first = tl.program_id(0)
    last = tiles if PERSISTENT else first + 1
    stride = tl.num_programs(0) if PERSISTENT else 1
    for number in tl.range(first, last, stride, flatten=PERSISTENT):
        column_tile = number % COLUMN_TILES
        tile = number // COLUMN_TILES

        pixel = tl.arange(0, BLOCK_PIXELS)  # [BLOCK_PIXELS]
        if DESCRIPTORS:
            # A tile is a box of BOX_H x BOX_W pixels of each of some images.
            BOX_IMAGES: tl.constexpr = BLOCK_PIXELS // (BOX_H * BOX_W)
            boxes_w = (out_width + BOX_W - 1) // BOX_W
            boxes_h = (out_height + BOX_H - 1) // BOX_H
            first_image = tile // (boxes_w * boxes_h) * BOX_IMAGES
            first_h = tile // boxes_w % boxes_h * BOX_H
            first_w = tile % boxes_w * BOX_W
            image = first_image + pixel // (BOX_H * BOX_W)
            out_h = first_h + pixel // BOX_W % BOX_H
            out_w = first_w + pixel % BOX_W
        else:
            # A tile is a run of the pixels of all images.
            first_image = tile * BLOCK_PIXELS // (out_height * out_width)
            pixel += tile * BLOCK_PIXELS
            image = pixel // (out_height * out_width)
            out_h = pixel % (out_height * out_width) // out_width
            out_w = pixel % out_width
        pixel_exists = (image < images) & (out_h < out_height) & (out_w < out_width)
        column = column_tile * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)  # [BLOCK_COLUMNS]
        k_in_block = tl.arange(0, BLOCK_K)

        CHANNEL_BLOCKS: tl.constexpr = (C_IN + BLOCK_K - 1) // BLOCK_K
        K_TOTAL: tl.constexpr = KERNEL_H * KERNEL_W * C_IN
        if DESCRIPTORS:
            STEPS: tl.constexpr = KERNEL_H * KERNEL_W * CHANNEL_BLOCKS
        else:
            STEPS: tl.constexpr = (K_TOTAL + BLOCK_K - 1) // BLOCK_K
            x_image = x + image.to(tl.int64) * height * width * X_PITCH
            x_h = out_h * STRIDE_H - PAD_H
            x_w = out_w * STRIDE_W - PAD_W
            K_STEP: tl.constexpr = 1 if TRANSPOSED else PITCH
            weight_columns = weight + column * (K_TOTAL if TRANSPOSED else 1)
        PER_SPLIT: tl.constexpr = (STEPS + SPLIT_K - 1) // SPLIT_K
        first_step = tl.program_id(1) * PER_SPLIT
        # Hopper sums products of 8 bits in fewer bits than float32's, into which each step adds
        # them.
        MOST_IMPRECISE: tl.constexpr = BLOCK_K if TRANSPOSED else 0

        # Swapped, the input is the second factor, which wgmma reads from shared memory where it is;
        # a reshaped first factor would pass through registers.
        if SWAPPED:
            accumulator = tl.zeros((BLOCK_COLUMNS, BLOCK_PIXELS), dtype=tl.float32)
        else:
            accumulator = tl.zeros((BLOCK_PIXELS, BLOCK_COLUMNS), dtype=tl.float32)
        for step in range(first_step, tl.minimum(first_step + PER_SPLIT, STEPS)):
            if DESCRIPTORS:
                # Pixels and channels outside of the input are read as zeros.
                tap = step // CHANNEL_BLOCKS
                channel = step % CHANNEL_BLOCKS * BLOCK_K
                in_h = first_h - PAD_H + tap // KERNEL_W * DILATION_H
                in_w = first_w - PAD_W + tap % KERNEL_W * DILATION_W
                a = x.load([first_image, in_h, in_w, channel]).reshape(BLOCK_PIXELS, BLOCK_K)
                k_channel = channel + k_in_block
                if HAS_NORM:
                    pixel_h = in_h + pixel // BOX_W % BOX_H
                    pixel_w = in_w + pixel % BOX_W
                    inside = (
                        (pixel_h >= 0) & (pixel_h < height) & (pixel_w >= 0) & (pixel_w < width)
                    )
                    inside = inside[:, None]
                if TRANSPOSED:
                    b = weight.load([column_tile * BLOCK_COLUMNS, tap * C_IN + channel]).T
                else:
                    b = weight.load([tap * C_IN + channel, column_tile * BLOCK_COLUMNS])
            elif C_IN % BLOCK_K == 0:
                # A step stays within one tap: its rows are contiguous.
                tap = step // CHANNEL_BLOCKS
                channel = step % CHANNEL_BLOCKS * BLOCK_K
                in_h = source(x_h + tap // KERNEL_W * DILATION_H, height, PAD_MODE, UPSAMPLE)
                in_w = source(x_w + tap % KERNEL_W * DILATION_W, width, PAD_MODE, UPSAMPLE)
                inside = (in_h >= 0) & (in_h < height) & (in_w >= 0) & (in_w < width) & pixel_exists
                inside = inside[:, None]
                x_pixel = x_image + (in_h * width + in_w) * X_PITCH
                a = tl.load(
                    x_pixel[:, None] + (channel + k_in_block)[None, :], mask=inside, other=0.0
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
                tap_h = tap // KERNEL_W * DILATION_H
                tap_w = tap % KERNEL_W * DILATION_W
                in_h = source(x_h[:, None] + tap_h[None, :], height, PAD_MODE, UPSAMPLE)
                in_w = source(x_w[:, None] + tap_w[None, :], width, PAD_MODE, UPSAMPLE)
                inside = (in_h >= 0) & (in_h < height) & (in_w >= 0) & (in_w < width)
                inside = inside & pixel_exists[:, None] & (k < K_TOTAL)[None, :]
                offset_k = (in_h * width + in_w) * X_PITCH + (k % C_IN)[None, :]
                a = tl.load(x_image[:, None] + offset_k, mask=inside, other=0.0)
                k_channel = k % C_IN
                b_mask = (k < K_TOTAL)[:, None] & (column < PITCH)[None, :]
                b = tl.load(weight_columns[None, :] + k[:, None] * K_STEP, mask=b_mask, other=0.0)
            if HAS_NORM:
                a = normalise_input(
                    a,
                    inside,
                    norm_centre,
                    norm_scale,
                    norm_shift,
                    norm_shift_pitch,
                    image,
                    first_image,
                    images,
                    k_channel,
                    C_IN,
                    BLOCK_K,
                    ONE_IMAGE,
                    HAS_NORM_SHIFT,
                    NORM_PADDED,
                    NORM_ACTIVATION,
                    NORM_SLOPE,
                    INTERPRETED,
                )
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

        column_exists = column < C_OUT
        mask = pixel_exists[:, None] & column_exists[None, :]
        image64 = image.to(tl.int64)[:, None]
        CHANNELS: tl.constexpr = C_OUT // (SHUFFLE * SHUFFLE)
        # The place in a square of pixels; without a shuffle, 0.
        square = (column // CHANNELS)[None, :]
        channel = (column % CHANNELS)[None, :]
        final_w = out_width * SHUFFLE
        plane = out_height * SHUFFLE * final_w
        in_image = out_h[:, None] * SHUFFLE * final_w + out_w[:, None] * SHUFFLE
        in_image += square // SHUFFLE * final_w + square % SHUFFLE
        if OUT_FORMAT == "float32_nchw":
            offset = (image64 * CHANNELS + channel) * plane + in_image
        else:
            offset = (image64 * plane + in_image) * OUT_PITCH + channel
        residual_offset = (image64 * plane + in_image) * RESIDUAL_PITCH + channel
        bias_column = column[None, :]
        if SHUFFLE_CRD:
            bias_column = channel * (SHUFFLE * SHUFFLE) + square

        accumulator = modulate_output(
            accumulator,
            scale_out,
            scale_out_pitch,
            noise,
            noise_pitch,
            image,
            column,
            column_exists,
            (out_h * out_width + out_w)[:, None],
            pixel_exists[:, None],
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
                bias_column,
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
                    pixel_exists[:, None],
                    column,
                    column_exists,
                    tile,
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
    """The tile configurations worth trying for `pixels` output pixels, the default first."""
    # The copy engine reads boxes of neighbours, pads with zeros, and needs strides of 16 bytes.
    plain = packed.pad_mode == "zeros" and not packed.upsample and packed.stride == (1, 1)
    aligned = packed.c_in * dtype.itemsize % 16 == 0 and packed.c_in >= 16
    product = tiles.Product(
        rows=pixels,
        columns=packed.c_out,
        channels=packed.c_in,
        taps=packed.kernel[0] * packed.kernel[1],
        dtype=dtype,
        precision=precision,
        descriptors=plain and aligned,
    )
    configs = tiles.configs(product, capability)
    if packed.shuffle > 1:
        # A split sum is finished by channel, where a bias before the shuffle is per square.
        configs = tuple(dict.fromkeys(config.with_(split_k=1) for config in configs))
    return configs


def _chunks(packed: PackedWeight, images: int, size: tuple[int, int], config: Config) -> int:
    """The chunks that each image's statistics come in, for an output of this size."""
    return 0 if packed.shuffle > 1 else measuring.chunks_of(config, images, *size)


def statistics_size(
    packed: PackedWeight, images: int, height: int, width: int, config: Config
) -> int:
    """The float32 that the statistics of the result take, for inputs of this size; 0: has none."""
    size = packed.output_size(height, width)
    # An input that is not aligned is not read through descriptors.
    chunks = (_chunks(packed, images, size, c) for c in (config, config.with_(descriptors=False)))
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
    normalised: Normalised | None = None,
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
    scale = 2 if packed.upsample else 1
    sizes = (height * scale, width * scale) * 2
    if packed.pad_mode == "reflect" and any(
        p >= n for p, n in zip(packed.padding, sizes, strict=True)
    ):
        raise ValueError(f"x: found {height}x{width}, needed more than the padding reflects")
    out_height, out_width = packed.output_size(height, width)
    r = packed.shuffle
    out = epilogue.output(x, (images, packed.channels, out_height * r, out_width * r), out)
    pixels = images * out_height * out_width
    if config is None:
        capability = capability or capability_of(x.device)
        config = configs(packed, pixels, x.dtype, capability, precision)[0]
    if config.descriptors and not is_aligned(x):
        config = config.with_(descriptors=False)
    if r > 1 and modulation != UNMODULATED:
        raise ValueError("modulation: found one with a shuffle, needed none")
    if normalised is not None and packed.scale is not None:
        raise ValueError("normalised: found one of an e4m3 input, needed none")
    modulation = dequantising(modulation, packed.scale, x_scale)
    if r > 1 and config.split_k > 1:
        raise ValueError("config: found split_k with a shuffle, needed split_k = 1")
    measured = None
    if statistics is not None and epilogue.out_format == "nhwc":
        chunks = _chunks(packed, images, (out_height, out_width), config)
        measured = Statistics.within(statistics, images, chunks, packed.c_out)
    box = (1, 1, 1)
    x_argument, weight_argument = x, packed.data
    if config.descriptors:
        box = box_of(images, out_height, out_width, config.block_m)
        x_argument = describe(x, (*box, config.block_k))
        weight_argument = describe_weight(packed.data, config, packed.scale is not None)
    arguments = {
        "x": x_argument,
        "weight": weight_argument,
        "images": images,
        "height": height,
        "width": width,
        "out_height": out_height,
        "out_width": out_width,
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
        "DILATION_H": packed.dilation[0],
        "DILATION_W": packed.dilation[1],
        "PAD_MODE": packed.pad_mode,
        "UPSAMPLE": packed.upsample,
        "SHUFFLE": r,
        "SHUFFLE_CRD": r > 1 and packed.shuffle_mode == "CRD",
        "PRECISION": precision,
        "SPLIT_K": config.split_k,
        "DESCRIPTORS": config.descriptors,
        "SWAPPED": is_swapped(
            config, through_registers=normalised is not None or modulation.scale_in is not None
        ),
        "BOX_H": box[1],
        "BOX_W": box[2],
        "ONE_IMAGE": is_of_one_image(config, box[0], out_height * out_width, images),
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_COLUMNS": config.block_n,
        "BLOCK_K": config.block_k,
        **modulation.arguments(x, (c_in, packed.c_out), (out_height, out_width)),
        **measuring.arguments(measured, x),
        **prologue.arguments(normalised, x, packed.pad_mode == "zeros" and any(packed.padding)),
        **epilogue.arguments(x, out, bias, residual, flag, slopes),
    }
    programs = ceil_div(packed.c_out, config.block_n)
    if config.descriptors:
        programs *= ceil_div(images, box[0])
        programs *= ceil_div(out_height, box[1]) * ceil_div(out_width, box[2])
    else:
        programs *= ceil_div(pixels, config.block_m)
    arguments |= persistent.arguments(config, programs)
    grid = (persistent.programs(config, programs, x.device), config.split_k)
    if config.split_k == 1:
        main = Call(conv_kernel, grid, arguments, config)
        return Prepared(out, (main,), measured)
    shape = (config.split_k, images, out_height, out_width, packed.c_out)
    partial = torch.empty(shape, dtype=torch.float32, device=x.device)
    sums = partial.permute(0, 1, 4, 2, 3)
    arguments |= Epilogue().arguments(x, sums[0], None, None, None) | {"out": partial}
    main = Call(conv_kernel, grid, arguments, config)
    return Prepared(out, (main, prepare_sum(sums, bias, out, epilogue, residual, flag, slopes)))


def launch(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """activation(shuffle(modulated(conv2d(pad(upsample(x)), weight)) + bias) + residual).

    x [N, c_in, H, W] channels_last, in the dtype the weights were packed in; bias float32 [c_out].
    x, out and residual may be some of the channels of a wider image. Accumulates in float32.
    A result of e4m3 is float16. Options: out, residual (added to the result), slopes (of a prelu,
    float32 [c_out]), modulation, normalised (a norm of x that is yet to be applied,
    `prologue.Normalised`), statistics (float32 memory of `statistics_size` for those of the
    result; `Prepared.statistics` is where they lie in it, None where the tiling has none), x_scale
    (what a 1 of x stands for, where x is e4m3), flag, precision ("ieee", or "tf32" for float32 on
    the tensor cores), config, and the fields of `epilogue.Epilogue`.
    """
    return prepare(x, packed, bias, **options).run()
