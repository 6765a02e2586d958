"""A transposed convolution as plain ones, which oneDNN runs at full speed, by its phases.

Apart: a convolution for each phase (`kernels/phases.py`), whose pixels then take their places
between those of the others. Together: one convolution whose channels are the phases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.engine.library.executor import BoundStep
from fastgan.kernels.phases import phases
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
    found = phases(kernel, stride, pad)[phase]
    taps = tuple(range(found.first, kernel, stride))[::-1]
    count = -(-(out - phase) // stride)
    begin, end = found.count - 1 - found.base, found.base + count - size
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


def bind_as_one(
    step: Step, weight: Tensor, bias: Tensor | None, x: Buffer, out: Buffer
) -> BoundStep | None:
    """A step of a few channels as one dense convolution, its output phases side by side.

    With as many taps as the largest phase has, the others' beside zeros, it gives all phases of all
    pixels as channels; a pixel shuffle brings them into place, and the padding is cropped.
    """
    a = step.attributes
    (pad_y, pad_x), (sy, sx) = a["pads"][:2], a["strides"]
    channels_in, channels, ky, kx = weight.shape
    height, width = out.shape[2:]
    ty, tx = (max(p.count for p in phases(k, s, 0)) for k, s in ((ky, sy), (kx, sx)))
    rows, columns = x.shape[2] + ty - 1, x.shape[3] + tx - 1
    if pad_y + height > sy * rows or pad_x + width > sx * columns:
        return None  # output padding beyond the last tap
    full = F.pad(weight, (0, sx * tx - kx, 0, sy * ty - ky))
    # [in, out, ty, sy, tx, sx] -> [(sy, sx, out), in, ty, tx], taps reversed for a correlation.
    apart = full.reshape(channels_in, channels, ty, sy, tx, sx).permute(3, 5, 1, 0, 2, 4)
    dense = apart.flip(-1, -2).reshape(sy * sx * channels, channels_in, ty, tx).contiguous()
    repeated = None if bias is None else bias.repeat(sy * sx)
    padding, ones = [ty - 1, tx - 1], [1, 1]
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        dense, padding, ones, ones, 1, list(x.shape)
    )
    fused = (step.epilogue.activation, list(step.epilogue.parameters), "")
    run = torch.ops.mkldnn._convolution_pointwise.default

    def call(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y = run(x, packed, repeated, padding, ones, ones, 1, *fused)
        y = y.permute(0, 2, 3, 1).view(-1, rows, columns, sy, sx, channels)
        # Few channels are most often the image itself: lay it out as it is wanted, NCHW.
        y = y.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, sy * rows, sx * columns)
        return y[:, :, pad_y : pad_y + height, pad_x : pad_x + width]

    return BoundStep(step, call, (step.inputs[0],))
