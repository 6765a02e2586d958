"""A transposed convolution as one plain convolution for each phase of its output, on oneDNN.

Output pixel o, counted from before the padding as f = o + pad, meets the taps k = f mod stride +
stride * t, on the inputs f // stride - t. So the pixels of one phase, stride apart, are a small
dense convolution of the input, which oneDNN runs at full speed; its pixels then take their places
between those of the other phases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.engine.library.executor import BoundStep
from fastgan.plan import Buffer, Step

#: Input pixels from which on phases pay: below, the calls themselves take the time.
_PIXELS = 64


@dataclass(frozen=True, slots=True)
class _Axis:
    """One phase along one axis.

    Attributes:
        taps: the kernel's rows that it meets, the last first.
        padding: of both sides of the input.
        skipped: the first results that belong to no pixel.
        count: the pixels of this phase.
    """

    taps: tuple[int, ...]
    padding: int
    skipped: int
    count: int


def _axis(phase: int, kernel: int, stride: int, pad: int, size: int, out: int) -> _Axis:
    first = (phase + pad) % stride
    taps = tuple(range(first, kernel, stride))[::-1]
    base, count = (phase + pad) // stride, -(-(out - phase) // stride)
    begin, end = len(taps) - 1 - base, base + count - size
    padding = max(begin, end, 0)
    return _Axis(taps, padding, padding - begin, count)


def bind(step: Step, weight: Tensor, x: Buffer, out: Buffer) -> BoundStep | None:
    """The bare product [C, O, *kernel] of a step; None where phases would not pay."""
    a = step.attributes
    strides, pads = a["strides"], a["pads"][:2]
    kernel, size, whole = weight.shape[2:], x.shape[2:], out.shape[2:]
    plain = a["group"] == 1 and all(d == 1 for d in a["dilations"]) and min(a["pads"]) >= 0
    if not plain or max(strides) < 2 or size[0] * size[1] < _PIXELS:
        return None
    if any(k < s for k, s in zip(kernel, strides, strict=True)):
        return None  # a phase that no tap reaches
    rows, columns = (
        [_axis(p, kernel[i], strides[i], pads[i], size[i], whole[i]) for p in range(strides[i])]
        for i in range(2)
    )
    ones = [1, 1]
    parts = []
    for y, row in enumerate(rows):
        for z, column in enumerate(columns):
            taps = weight[:, :, list(row.taps)][:, :, :, list(column.taps)]
            padding = [row.padding, column.padding]
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                taps.transpose(0, 1).contiguous(), padding, ones, ones, 1, list(x.shape)
            )
            parts.append((y, z, row, column, padding, packed))
    run = torch.ops.mkldnn._convolution_pointwise.default
    shape, layout = out.shape, torch.channels_last
    (sy, sx) = strides

    def call(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=layout)
        result = torch.empty(shape, dtype=x.dtype, memory_format=layout)
        for y, z, row, column, padding, packed in parts:
            made = run(x, packed, None, padding, ones, ones, 1, "none", [], "")
            made = made[:, :, row.skipped :, column.skipped :]
            result[:, :, y::sy, z::sx] = made[:, :, : row.count, : column.count]
        return result

    return BoundStep(step, call, (step.inputs[0],))
