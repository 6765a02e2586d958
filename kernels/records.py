"""What a kernel is told, in records: a handful of arguments where there would be seventy.

Run time: `at` (sizes), `norm`, `mod`, `stats`, `parts`, `to`: pointers and numbers. What a launch
does not have is None, which Triton makes a constant: `if norm is not None` costs nothing.
Compile time, annotated `tl.constexpr`: `layer` (what is computed), `end` (how a result ends) and
`how` (the tiling).

Rules. A compile-time fact goes into a record annotated `tl.constexpr`, for the interpreter makes
tensors of the integers in a run-time record. A function never goes into one: Triton's disk cache
takes `str()` of it and would not see it change. A record has no namesake among a kernel's locals.
And for Triton 3.6, which takes a field out of its constexpr: what a function is passed is a whole
record, a number, or a string that is wrapped again, `tl.constexpr(end.activation)`; a record within
a record could not be passed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

Pointer = torch.Tensor


class Place(NamedTuple):
    """`at` of a convolution: how many tiles there are, and the sizes of the images.

    rows and columns are those of a phase of the output.
    """

    tiles: int
    images: int
    height: int
    width: int
    rows: int
    columns: int
    out_height: int
    out_width: int


class InputNorm(NamedTuple):
    """`norm`: of the input, see prologue.py."""

    centre: Pointer  # [images, C_IN] float32
    scale: Pointer  # [images, C_IN] float32
    shift: Pointer | None  # [C_IN] or [images, C_IN] float32
    shift_pitch: int


class Modulating(NamedTuple):
    """`mod`: scales of channels, and noise, see modulation.py."""

    scale_in: Pointer | None  # [images or 1, C_IN]
    scale_in_pitch: int
    scale_out: Pointer | None  # [images or 1, C_OUT]
    noise: Pointer | None  # [images or 1, out_height, out_width]
    noise_pitch: int


class Measuring(NamedTuple):
    """`stats`: where the statistics of what is stored go, see statistics.py."""

    means: Pointer  # [chunks, C_OUT] float32
    deviations: Pointer  # [chunks, C_OUT] float32
    counts: Pointer  # [chunks] float32


class Parts(NamedTuple):
    """`parts`: of a split reduction, see splits.py."""

    sums: Pointer  # [splits, tiles, rows of a tile, columns of a tile] float32
    arrived: Pointer  # [tiles] int32, 0 before and after a launch


class Output(NamedTuple):
    """`to`: where a result goes, and what is added on its way, see epilogue.py."""

    out: Pointer  # as End.out_format says
    residual: Pointer | None  # like out
    bias: Pointer | None  # [C_OUT] float32
    slopes: Pointer | None  # [C_OUT] float32: of a prelu
    flag: Pointer | None  # [1] int32
    low: float
    high: float


class End(NamedTuple):
    """`end`: the compile-time part of an epilogue."""

    activation: str
    slope: float
    out_format: str
    out_pitch: int  # elements from one pixel to the next
    residual_pitch: int
    residual_last: bool
