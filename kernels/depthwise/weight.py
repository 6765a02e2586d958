"""Weights of a depthwise convolution as `depthwise` reads them: packed once, at load."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch

from .. import phases
from ..conv.weight import PAD_MODES
from ..types import ceil_div


@dataclass(frozen=True)
class PackedWeight:
    """Filters as the kernel reads them, with the geometry they were packed for.

    A convolution has one phase; a transposed one has `stride` of them along each axis, each a
    convolution of its own that reads with stride 1, and writes every `phases`-th pixel.
    """

    # [phases, taps_h, taps_w, channels] float32; one channel where all have the same filter
    data: torch.Tensor
    channels: int
    taps: tuple[int, int]  # of each phase; with zeros where one has fewer
    phases: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    # Phase p of an axis begins to read at (p + origin) // phases - (taps - 1).
    origin: tuple[int, int]
    # An axis of n pixels becomes one of (phases * n + growth) // stride + 1.
    growth: tuple[int, int]
    pad_mode: str = "zeros"
    upsample: bool = False  # the input is read as if each pixel were a square of four

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result."""
        high, wide = (
            (self.phases[i] * n * (1 + self.upsample) + self.growth[i]) // self.stride[i] + 1
            for i, n in enumerate((height, width))
        )
        return high, wide

    def check_reflection(self, height: int, width: int) -> None:
        """ValueError where reflected padding would reach beyond the other side."""
        if self.pad_mode != "reflect":
            return
        for i, n in enumerate((height, width)):
            n *= 1 + self.upsample
            before = self.taps[i] - 1 - self.origin[i]
            after = self.growth[i] + (self.taps[i] - 1) * self.dilation[i] + 1 - before
            if max(before, after) >= n:
                raise ValueError(
                    f"x: found {height}x{width}, needed more than the padding reflects"
                )


def pack(
    weight: torch.Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    pad_mode: str = "zeros",
    upsample: bool = False,
) -> PackedWeight:
    """Packs the filters [channels, 1, kernel_h, kernel_w] of a convolution, once at load.

    padding is (top, left, bottom, right) and applies after the upsampling.
    """
    if pad_mode not in PAD_MODES:
        raise ValueError(f"pad_mode: found {pad_mode!r}, needed one of {PAD_MODES}")
    kernel = _kernel(weight)
    channels, weight = weight.shape[0], _distinct(weight)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return PackedWeight(
        data=weight.float().permute(1, 2, 3, 0).contiguous(),
        channels=channels,
        taps=kernel,
        phases=(1, 1),
        stride=stride,
        dilation=dilation,
        origin=(kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]),
        growth=(padding[0] + padding[2] - reach[0], padding[1] + padding[3] - reach[1]),
        pad_mode=pad_mode,
        upsample=upsample,
    )


def pack_transposed(
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    *,
    output_padding: tuple[int, int] = (0, 0),
) -> PackedWeight:
    """Packs the filters [channels, 1, kernel_h, kernel_w] of a transposed convolution.

    Its dilation is 1; padding is (top, left, bottom, right).
    """
    if min(padding) < 0:
        raise ValueError(f"padding: found {padding}, needed none below zero")
    kernel = _kernel(weight)
    channels, weight = weight.shape[0], _distinct(weight)
    taps = (ceil_div(kernel[0], stride[0]), ceil_div(kernel[1], stride[1]))
    data = weight.new_zeros((stride[0] * stride[1], *taps, weight.shape[0]), dtype=torch.float32)
    axes = zip(kernel, stride, padding[:2], strict=True)
    for phase, (row, column) in enumerate(product(*(phases.phases(*axis) for axis in axes))):
        own = weight[:, 0, row.first :: stride[0], column.first :: stride[1]].float().flip(1, 2)
        high, wide = own.shape[1:]
        # The last tap of the kernel reads the first pixel; one that is not there reads before it.
        data[phase, taps[0] - high :, taps[1] - wide :] = own.permute(1, 2, 0)
    return PackedWeight(
        data=data,
        channels=channels,
        taps=taps,
        phases=stride,
        stride=(1, 1),
        dilation=(1, 1),
        origin=(padding[0], padding[1]),
        growth=(
            kernel[0] - stride[0] - padding[0] - padding[2] + output_padding[0] - 1,
            kernel[1] - stride[1] - padding[1] - padding[3] + output_padding[1] - 1,
        ),
    )


def _kernel(weight: torch.Tensor) -> tuple[int, int]:
    if weight.dim() != 4 or weight.shape[1] != 1:
        raise ValueError(
            f"weight: found {tuple(weight.shape)}, needed [channels, 1, rows, columns]"
        )
    return weight.shape[2], weight.shape[3]


def _distinct(weight: torch.Tensor) -> torch.Tensor:
    """The filters, or the first one where all channels have the same."""
    same = weight.stride(0) == 0
    if not same and weight.device.type != "meta":
        same = bool((weight == weight[:1]).all())
    return weight[:1] if same else weight
