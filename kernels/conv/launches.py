"""The launches of a convolution, plain or transposed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import persistent, prologue, splits
from .. import statistics as measuring
from ..e4m3 import dequantising
from ..epilogue import Epilogue
from ..layout import is_aligned, pitch
from ..modulation import UNMODULATED, Modulation, is_swapped
from ..prologue import Normalised
from ..records import Place
from ..statistics import Statistics, is_of_one_image
from ..types import (
    Call,
    Config,
    Prepared,
    box_of,
    capability_of,
    ceil_div,
    describe,
    describe_weight,
)
from .kernel import Layer, Tiling, conv_kernel
from .weight import Packed


def statistics_size(packed: Packed, images: int, height: int, width: int, config: Config) -> int:
    """The float32 that the statistics of the result take, for inputs of this size; 0: has none."""
    size = packed.phase_size(height, width)
    # An input that is not aligned is not read through descriptors.
    both = (config, config.with_(descriptors=False))
    chunks = (measuring.chunks_of(c, images, *size, copies=packed.chunks) for c in both)
    return measuring.size(images, max(chunks), packed.c_out)


def prepare_launches(
    x: torch.Tensor,
    packed: Packed,
    bias: torch.Tensor | None,
    configs: Callable[..., tuple[Config, ...]],
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
    """See conv.launch. The capability, which picks the config, is that of x's device by default."""
    epilogue = Epilogue(**epilogue_fields)
    images, c_in, height, width = x.shape
    if c_in != packed.c_in or x.dtype != packed.data.dtype:
        raise ValueError(
            f"x: found {c_in} channels of {x.dtype}, needed {packed.c_in} of {packed.data.dtype}"
        )
    x_pitch = pitch(x, "x")
    out_size = packed.output_size(height, width)
    rows, columns = packed.phase_size(height, width)
    pixels = images * rows * columns
    out = epilogue.output(x, (images, *packed.shape(height, width)), out)
    if config is None:
        capability = capability or capability_of(x.device)
        config = configs(packed, pixels, x.dtype, capability, precision)[0]
    if config.descriptors and not is_aligned(x):
        config = config.with_(descriptors=False)
    modulation = dequantising(modulation, packed.scale, x_scale)
    measured = None
    if statistics is not None and epilogue.out_format == "nhwc":
        chunks = measuring.chunks_of(config, images, rows, columns, copies=packed.chunks)
        measured = Statistics.within(statistics, images, chunks, packed.c_out)

    by_columns = packed.scale is not None
    box = box_of(images, rows, columns, config.block_m) if config.descriptors else (1, 1, 1)
    tiles = ceil_div(packed.columns, config.block_n) * packed.copies
    if config.descriptors:
        tiles *= ceil_div(images, box[0]) * ceil_div(rows, box[1]) * ceil_div(columns, box[2])
    else:
        tiles *= ceil_div(pixels, config.block_m)
    layer = Layer(
        c_in=c_in,
        c_out=packed.c_out,
        x_pitch=x_pitch,
        pitch=packed.pitch,
        by_columns=by_columns,
        scale_out_pitch=modulation.scale_out_pitch,
        **packed.geometry,
    )
    if normalised is not None:
        activation = {"norm_activation": normalised.activation, "norm_slope": normalised.slope}
        layer = layer._replace(**activation)
    through_registers = normalised is not None or modulation.scale_in is not None
    how = Tiling(
        precision=config.multiplies_in(precision),
        persistent=config.persistent > 0,
        split_k=config.split_k,
        descriptors=config.descriptors,
        swapped=is_swapped(config, through_registers),
        one_image=is_of_one_image(config, box[0], rows * columns, images),
        box_h=box[1],
        box_w=box[2],
        block_pixels=config.block_m,
        block_columns=config.block_n,
        block_k=config.block_k,
        dependent=config.dependent,
    )
    arguments = {
        "x": describe(x, (*box, config.block_k)) if config.descriptors else x,
        "weight": describe_weight(packed.data, config, by_columns)
        if config.descriptors
        else packed.data,
        "at": Place(tiles, images, height, width, rows, columns, *out_size),
        "norm": prologue.record(normalised, x),
        "mod": modulation.record(images, (c_in, packed.c_out), out_size),
        "stats": measuring.record(measured),
        "parts": splits.record(config, tiles, x.device),
        "layer": layer,
        "how": how,
    }
    grid = (persistent.programs(config, tiles, x.device), config.split_k)
    arguments |= epilogue.arguments(out, bias, residual, flag, slopes)
    return Prepared(out, (Call(conv_kernel, grid, arguments, config),), measured)
