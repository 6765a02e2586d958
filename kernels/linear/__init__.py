"""A linear layer, bias and activation fused: the first layer of most generators.

What follows a generator's first layer is an image of a few pixels, and its columns may be stored in
any order at no cost. So packing puts them in channels-last order (h, w, c), and the result, seen as
[N, C, H, W] with channels last, is what the next layer reads: of a dense layer whose columns a
Reshape turns into [C, H, W], as of a transposed convolution of a 1x1 input, which is such a layer.

Rows are not padded: those of 100 numbers in 16 bits are read 8 bytes at a time. With 104 the
compiler's instructions for a batch of 1 are the same ones; for 256 it copies 16 bytes where there
were 8 (744 instructions for 800 on sm_90): of 51 KB, beside 1.6 MB of weights and 4 MB of results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from .. import splits, tiles
from ..dependent import begin
from ..e4m3 import as_factor
from ..epilogue import BUFFERS, Epilogue, finish
from ..layout import pitch
from ..splits import is_last, summed
from ..types import Call, Config, Prepared, capability_of, ceil_div


@dataclass(frozen=True)
class PackedWeight:
    """Weights as the kernel reads them; columns are in the order (height, width, channel)."""

    data: torch.Tensor  # [k, columns padded]
    k: int
    image: tuple[int, int, int]  # C, H, W; H = W = 1 for plain rows

    @property
    def columns(self) -> int:
        return self.image[0] * self.image[1] * self.image[2]


def pack(
    weight: torch.Tensor, dtype: torch.dtype, *, image: tuple[int, int, int] | None = None
) -> PackedWeight:
    """Packs weight [k, columns]; with image = (C, H, W), columns are in the order (c, h, w)."""
    k, columns = weight.shape
    image = image or (columns, 1, 1)
    channels, height, width = image
    if channels * height * width != columns:
        raise ValueError(f"image: found {image}, needed a product of {columns}")
    data = weight.new_zeros((k, ceil_div(columns, 16) * 16), dtype=dtype)
    ordered = weight.view(k, channels, height * width).transpose(1, 2).reshape(k, columns)
    data[:, :columns] = ordered.to(dtype)
    return PackedWeight(data, k, image)


def pack_bias(bias: torch.Tensor, packed: PackedWeight) -> torch.Tensor:
    """Bias [C], one per channel, or [C * H * W] in the order (c, h, w) -> float32, per column."""
    channels, height, width = packed.image
    if bias.numel() == channels:
        return bias.float().repeat(height * width)
    return bias.float().view(channels, height * width).t().reshape(-1)


class Layer(NamedTuple):
    """What is computed."""

    k: int
    columns: int
    pitch: int  # columns of weight


class Tiling(NamedTuple):
    """How it is computed."""

    precision: str
    split_k: int  # programs that share a tile's sum
    block_rows: int
    block_columns: int
    block_k: int
    dependent: bool  # it is launched before the launch before it has ended


@triton.jit
def linear_kernel(
    x,  # [rows, K]
    weight,  # [K, PITCH]
    rows,
    parts,  # Parts or None
    to,  # Output: [rows, COLUMNS]
    layer: tl.constexpr,  # Layer
    end: tl.constexpr,  # End
    how: tl.constexpr,  # Tiling
):
    K: tl.constexpr = layer.k
    COLUMNS: tl.constexpr = layer.columns
    PITCH: tl.constexpr = layer.pitch
    BLOCK_ROWS: tl.constexpr = how.block_rows
    BLOCK_COLUMNS: tl.constexpr = how.block_columns
    BLOCK_K: tl.constexpr = how.block_k
    COLUMN_TILES: tl.constexpr = (COLUMNS + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    begin(how.dependent)
    tile = tl.program_id(0)
    column = (tile % COLUMN_TILES) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    row = (tile // COLUMN_TILES) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    row_exists = row < rows
    x_row = x + row.to(tl.int64)[:, None] * K
    k_in_block = tl.arange(0, BLOCK_K)

    STEPS: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    PER_SPLIT: tl.constexpr = (STEPS + how.split_k - 1) // how.split_k
    first_step = tl.program_id(1) * PER_SPLIT
    accumulator = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), dtype=tl.float32)
    for step in range(first_step, tl.minimum(first_step + PER_SPLIT, STEPS)):
        k = step * BLOCK_K + k_in_block
        b_pointers = weight + k[:, None] * PITCH + column[None, :]
        if K % BLOCK_K == 0:
            a = tl.load(x_row + k[None, :], mask=row_exists[:, None], other=0.0)
        else:
            a = tl.load(x_row + k[None, :], mask=row_exists[:, None] & (k < K)[None, :], other=0.0)
        if K % BLOCK_K == 0 and PITCH % BLOCK_COLUMNS == 0:
            b = tl.load(b_pointers)
        else:
            b = tl.load(b_pointers, mask=(k < K)[:, None] & (column < PITCH)[None, :], other=0.0)
        a = as_factor(a)
        b = as_factor(b)
        accumulator = tl.dot(a, b, accumulator, input_precision=how.precision)

    column_exists = column < COLUMNS
    mask = row_exists[:, None] & column_exists[None, :]
    offset = row.to(tl.int64)[:, None] * COLUMNS + column[None, :]
    if how.split_k > 1:
        tiles = tl.num_programs(0)
        if is_last(accumulator, parts, tile, tiles, BLOCK_ROWS, BLOCK_COLUMNS, how.split_k):
            value = summed(parts, tile, tiles, BLOCK_ROWS, BLOCK_COLUMNS, how.split_k)
            finish(value, column[None, :], column_exists[None, :], offset, offset, mask, to, end)
    else:
        finish(accumulator, column[None, :], column_exists[None, :], offset, offset, mask, to, end)


def configs(
    packed: PackedWeight,
    rows: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    precision: str = "ieee",
) -> tuple[Config, ...]:
    """The tile configurations worth trying, the default first."""
    product = tiles.Product(rows, packed.columns, packed.k, dtype=dtype, precision=precision)
    return tiles.configs(product, capability)


def prepare(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    *,
    out: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    flag: torch.Tensor | None = None,
    precision: str = "ieee",
    config: Config | None = None,
    capability: tuple[int, int] | None = None,
    **epilogue_fields: Any,
) -> Prepared:
    """See launch. The capability, which picks the config, is that of x's device unless given."""
    epilogue = Epilogue(**epilogue_fields)
    if epilogue.out_format not in BUFFERS:
        raise ValueError(f"out_format: found {epilogue.out_format!r}, needed one of {BUFFERS}")
    rows, k = x.shape[0], x[0].numel()
    if k != packed.k or x.dtype != packed.data.dtype:
        raise ValueError(
            f"x: found {k} columns of {x.dtype}, needed {packed.k} of {packed.data.dtype}"
        )
    x = x.reshape(rows, k)
    if not x.is_contiguous():
        raise ValueError(f"x: found strides {x.stride()}, needed contiguous rows")
    out = epilogue.output(x, (rows, *packed.image), out)
    for name, tensor in (("out", out), ("residual", residual)):
        if tensor is not None and pitch(tensor, name) != packed.image[0]:
            raise ValueError(f"{name}: found strides {tensor.stride()}, needed whole rows")
    if config is None:
        capability = capability or capability_of(x.device)
        config = configs(packed, rows, x.dtype, capability, precision)[0]
    how = Tiling(
        precision=config.multiplies_in(precision),
        split_k=config.split_k,
        block_rows=config.block_m,
        block_columns=config.block_n,
        block_k=config.block_k,
        dependent=config.dependent,
    )
    arguments = {
        "x": x,
        "weight": packed.data,
        "rows": rows,
        "parts": None,
        "layer": Layer(k, packed.columns, packed.data.shape[-1]),
        "how": how,
    }
    programs = ceil_div(rows, config.block_m) * ceil_div(packed.columns, config.block_n)
    arguments["parts"] = splits.record(config, programs, x.device)
    arguments |= epilogue.arguments(out, bias, residual, flag, slopes)
    main = Call(linear_kernel, (programs, config.split_k), arguments, config)
    return Prepared(out, (main,))


def launch(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """activation(x @ weight + bias) as [N, C, H, W] with channels last (H = W = 1: plain rows).

    x [N, k] or [N, k, 1, 1], in the dtype the weights were packed in; bias float32 from `pack_bias`
    (one per column). Accumulates in float32. Options: out, residual (added to the result, like
    out), slopes (of a prelu, as `pack_bias` makes them), flag, precision, config, and the fields of
    `epilogue.Epilogue`.
    """
    return prepare(x, packed, bias, **options).run()
