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

from .conv_transpose_weight import PackedWeight, pack, union_of_taps
from .epilogue import Epilogue, activate, raise_flag, to_stored
from .to_image import prepare_sum
from .types import INTERPRETED, Call, Config, Prepared, capability_of, ceil_div, next_power_of_two

__all__ = ["PackedWeight", "configs", "launch", "pack", "prepare"]


@triton.jit
def conv_transpose_kernel(
    x,  # [images, height, width, C_IN]
    weight,  # [PHASES or 1, taps * C_IN, PITCH]
    bias,  # [C_OUT] float32
    out,  # [images, out_height, out_width, C_OUT], or as OUT_FORMAT says
    flag,  # [1] int32
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
    PITCH: tl.constexpr,
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
    HAS_BIAS: tl.constexpr,
    HAS_FLAG: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    OUT_FORMAT: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
    SPLIT_K: tl.constexpr,  # with more than 1, out is float32 [SPLIT_K, images, ..., C_OUT]
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    PHASES: tl.constexpr = STRIDE_H * STRIDE_W
    COLUMNS: tl.constexpr = C_OUT * PHASES if PHASES_IN_COLUMNS else C_OUT
    COLUMN_TILES: tl.constexpr = (COLUMNS + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS

    # Neighbouring programs share their input pixels: column tile fastest, then phase, then pixels.
    tile = tl.program_id(0)
    column_tile = tile % COLUMN_TILES
    tile = tile // COLUMN_TILES
    if PHASES_IN_COLUMNS:
        phase_h = 0
        phase_w = 0
        taps_h = TAPS_H
        taps_w = TAPS_W
        base_h = NEWEST_H
        base_w = NEWEST_W
        weight_phase = weight
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
        weight_phase = weight + phase * (TAPS_H * TAPS_W * C_IN * PITCH)

    pixel = tile * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)  # [BLOCK_PIXELS]
    image = pixel // (rows * columns)
    in_image = pixel % (rows * columns)
    q_h = in_image // columns
    q_w = in_image % columns
    pixel_exists = image < images
    column = column_tile * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)  # [BLOCK_COLUMNS]
    k_in_block = tl.arange(0, BLOCK_K)

    x_h = q_h + base_h
    x_w = q_w + base_w
    x_pixel = x + ((image.to(tl.int64) * height + x_h) * width + x_w) * C_IN
    weight_columns = weight_phase + column

    accumulator = tl.zeros((BLOCK_PIXELS, BLOCK_COLUMNS), dtype=tl.float32)
    k_total = taps_h * taps_w * C_IN
    steps = (k_total + BLOCK_K - 1) // BLOCK_K
    if SPLIT_K > 1:
        per_split = (steps + SPLIT_K - 1) // SPLIT_K
        first_step = tl.program_id(1) * per_split
        steps = tl.minimum(first_step + per_split, steps)
    else:
        first_step = 0
    for step in range(first_step, steps):
        k = step * BLOCK_K + k_in_block
        if C_IN % BLOCK_K == 0:
            # A step stays within one tap: its position is a scalar, its rows are contiguous.
            tap = (step * BLOCK_K) // C_IN
            tap_h = tap // taps_w
            tap_w = tap % taps_w
            in_h = x_h - tap_h
            in_w = x_w - tap_w
            inside = (in_h >= 0) & (in_h < height) & (in_w >= 0) & (in_w < width) & pixel_exists
            shift = step * BLOCK_K - tap * C_IN - (tap_h * width + tap_w) * C_IN
            a = tl.load(
                x_pixel[:, None] + (shift + k_in_block)[None, :], mask=inside[:, None], other=0.0
            )  # [BLOCK_PIXELS, BLOCK_K]
            k_mask = k >= 0
        else:
            k_mask = k < k_total
            tap = k // C_IN
            tap_h = tap // taps_w
            tap_w = tap % taps_w
            in_h = x_h[:, None] - tap_h[None, :]
            in_w = x_w[:, None] - tap_w[None, :]
            inside = (in_h >= 0) & (in_h < height) & (in_w >= 0) & (in_w < width)
            inside = inside & pixel_exists[:, None] & k_mask[None, :]
            shift = k - tap * C_IN - (tap_h * width + tap_w) * C_IN
            a = tl.load(x_pixel[:, None] + shift[None, :], mask=inside, other=0.0)
        b_pointers = weight_columns[None, :] + k[:, None] * PITCH
        if C_IN % BLOCK_K == 0 and PITCH % BLOCK_COLUMNS == 0:
            b = tl.load(b_pointers)  # [BLOCK_K, BLOCK_COLUMNS]
        else:
            b = tl.load(b_pointers, mask=k_mask[:, None] & (column < PITCH)[None, :], other=0.0)
        if INTERPRETED and a.dtype == tl.bfloat16:
            # The interpreter multiplies bfloat16 bit patterns as integers.
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        accumulator = tl.dot(a, b, accumulator, input_precision=PRECISION)

    if PHASES_IN_COLUMNS:
        column_phase = column // C_OUT
        channel = column % C_OUT
        out_h = (q_h * STRIDE_H)[:, None] + (column_phase // STRIDE_W)[None, :]
        out_w = (q_w * STRIDE_W)[:, None] + (column_phase % STRIDE_W)[None, :]
        column_exists = column < COLUMNS
    else:
        channel = column
        out_h = (q_h * STRIDE_H + phase_h)[:, None]
        out_w = (q_w * STRIDE_W + phase_w)[:, None]
        column_exists = column < C_OUT
    mask = (out_h < out_height) & (out_w < out_width) & pixel_exists[:, None]
    mask = mask & column_exists[None, :]
    image64 = image.to(tl.int64)[:, None]
    if OUT_FORMAT == "float32_nchw":
        plane = out_height * out_width
        offset = (image64 * C_OUT + channel[None, :]) * plane + out_h * out_width + out_w
    else:
        offset = ((image64 * out_height + out_h) * out_width + out_w) * C_OUT + channel[None, :]

    if SPLIT_K > 1:
        total = images.to(tl.int64) * out_height * out_width * C_OUT
        tl.store(out + tl.program_id(1) * total + offset, accumulator, mask=mask)
    else:
        if HAS_BIAS:
            accumulator += tl.load(bias + channel, mask=column_exists, other=0.0)[None, :]
        result = activate(accumulator, ACTIVATION, SLOPE)
        result = to_stored(result, low, high, OUT_FORMAT, out.dtype.element_ty, INTERPRETED)
        tl.store(out + offset, result, mask=mask)
        if HAS_FLAG:
            raise_flag(flag, accumulator, result, mask, OUT_FORMAT)


def configs(
    packed: PackedWeight, pixels: int, dtype: torch.dtype, capability: tuple[int, int]
) -> tuple[Config, ...]:
    """The tile configurations worth trying for `pixels` pixels per phase, the default first."""
    k_total = packed.taps[0] * packed.taps[1] * packed.c_in
    if INTERPRETED:
        # An interpreted program costs the same whatever its size: few and large ones.
        block_m = min(512, max(16, next_power_of_two(pixels)))
        block_k = min(1024, max(16, next_power_of_two(packed.c_in)))
        block_n = min(256, max(16, next_power_of_two(packed.columns)))
        return (Config(block_m, block_n, block_k),)
    block_n = min(128, max(16, next_power_of_two(packed.columns)))
    block_k = 32 if dtype == torch.float32 or packed.c_in % 64 else 64
    if k_total < block_k:
        block_k = 16
    if dtype == torch.float32:
        return (Config(64, min(block_n, 64), 16 if k_total < 32 else 32, 4, 2),)
    block_m = 128 if pixels >= 128 else 64
    return (Config(block_m, block_n, block_k, 8 if block_m * block_n >= 16384 else 4, 3),)


def prepare(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    *,
    out: torch.Tensor | None = None,
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
    if not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"x: found strides {x.stride()}, needed channels_last")
    out_height, out_width = packed.output_size(height, width)
    out = epilogue.output(x, (images, packed.c_out, out_height, out_width), out)
    rows = ceil_div(out_height, packed.stride[0])
    columns = ceil_div(out_width, packed.stride[1])
    pixels = images * rows * columns
    if config is None:
        config = configs(packed, pixels, x.dtype, capability or capability_of(x.device))[0]
    spans = [union_of_taps(packed.kernel[i], packed.stride[i], packed.padding[i]) for i in range(2)]
    arguments = {
        "x": x,
        "weight": packed.data,
        "out": out,
        "images": images,
        "height": height,
        "width": width,
        "out_height": out_height,
        "out_width": out_width,
        "rows": rows,
        "columns": columns,
        "C_IN": c_in,
        "C_OUT": packed.c_out,
        "PITCH": packed.data.shape[-1],
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
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_COLUMNS": config.block_n,
        "BLOCK_K": config.block_k,
        **epilogue.arguments(bias, flag, unused=x),
    }
    tiles = ceil_div(pixels, config.block_m) * ceil_div(packed.columns, config.block_n)
    if not packed.phases_in_columns:
        tiles *= packed.phases
    grid = (tiles, config.split_k)
    if config.split_k == 1:
        main = Call(conv_transpose_kernel, grid, arguments, config.num_warps, config.num_stages)
        return Prepared(out, (main,))
    shape = (config.split_k, images, out_height, out_width, packed.c_out)
    partial = torch.empty(shape, dtype=torch.float32, device=x.device)
    arguments |= {"out": partial, **Epilogue().arguments(None, None, unused=x)}
    main = Call(conv_transpose_kernel, grid, arguments, config.num_warps, config.num_stages)
    finish = prepare_sum(partial.permute(0, 1, 4, 2, 3), bias, out, epilogue, flag)
    return Prepared(out, (main, finish))


def launch(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """activation(conv_transpose2d(x, weight) + bias).

    x [N, c_in, H, W] channels_last, in the dtype the weights were packed in; bias float32 [c_out].
    Accumulates in float32. Options: out, flag, precision ("ieee", or "tf32" for float32 on the
    tensor cores), config, and the fields of `epilogue.Epilogue`.
    """
    return prepare(x, packed, bias, **options).run()
