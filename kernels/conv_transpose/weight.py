"""Weights of a transposed convolution as `conv_transpose` reads them: packed once, at load."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from .. import phases
from ..conv.weight import Packed
from ..e4m3 import E4M3, quantise
from ..types import ceil_div


@dataclass(frozen=True, kw_only=True)
class PackedWeight(Packed):
    """Of a transposed one: data [(phases or 1) * taps_h * taps_w * c_in, columns padded]."""

    output_padding: tuple[int, int]
    taps: tuple[int, int]  # the most taps of any phase, or of their union
    phases_in_columns: bool

    @property
    def columns(self) -> int:
        return self.c_out * (self.chunks if self.phases_in_columns else 1)

    @property
    def copies(self) -> int:
        """How often the pixels of a phase are tiled."""
        return 1 if self.phases_in_columns else self.chunks

    @property
    def chunks(self) -> int:
        """How many chunks of statistics the tiles of the same pixels have: one for each phase."""
        return self.stride[0] * self.stride[1]

    @property
    def geometry(self) -> dict[str, Any]:
        """What `conv.kernel.Layer` has of it."""
        base = self.padding[:2]
        if self.phases_in_columns:
            axes = zip(self.kernel, self.stride, self.padding[:2], strict=True)
            base = tuple(union_of_taps(*axis)[1] for axis in axes)
        return {
            "transposed": True,
            "taps_h": self.taps[0],
            "taps_w": self.taps[1],
            "tap_step_h": -1,
            "tap_step_w": -1,
            "base_h": base[0],
            "base_w": base[1],
            "kernel_h": self.kernel[0],
            "kernel_w": self.kernel[1],
            "pad_h": self.padding[0],
            "pad_w": self.padding[1],
            "phases_h": self.stride[0],
            "phases_w": self.stride[1],
            "phases_in_columns": self.phases_in_columns,
            "norm_padded": True,
        }

    def phase_size(self, height: int, width: int) -> tuple[int, int]:
        """Output rows and columns of a phase."""
        size = self.output_size(height, width)
        return ceil_div(size[0], self.stride[0]), ceil_div(size[1], self.stride[1])

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result."""
        high, wide = (
            phases.output_size(
                n,
                self.kernel[i],
                self.stride[i],
                self.padding[i] + self.padding[i + 2],
                self.output_padding[i],
            )
            for i, n in enumerate((height, width))
        )
        return high, wide


def union_of_taps(kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """The (first, last) input row, relative to q, that any phase of one axis reads."""
    found = phases.phases(kernel, stride, pad)
    return min(p.base - p.count + 1 for p in found if p.count), max(
        p.base for p in found if p.count
    )


def pack(
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dtype: torch.dtype,
    *,
    output_padding: tuple[int, int] = (0, 0),
    phases_in_columns: bool | None = None,
) -> PackedWeight:
    """Packs weight [c_in, c_out, kernel_h, kernel_w] (any batch norm folded in), once at load.

    padding is (top, left, bottom, right). Unless phases_in_columns says otherwise, the phases go
    into columns when all of them fit into 32.
    """
    c_in, c_out, *kernel = weight.shape  # [IOkk]
    if min(padding) < 0:
        raise ValueError(f"padding: found {padding}, needed none below zero")
    scale = None
    if dtype == E4M3:
        weight, scale = quantise(weight, 1)
    count = stride[0] * stride[1]
    if phases_in_columns is None:
        phases_in_columns = count > 1 and count * c_out <= 32
    columns = c_out * (count if phases_in_columns else 1)
    # Rows of whole 32-byte sectors: every load of a tile's row is then aligned.
    pitch = ceil_div(columns, 16) * 16
    axes = list(zip(kernel, stride, padding[:2], strict=True))
    if phases_in_columns:
        spans = [union_of_taps(*axis) for axis in axes]
        taps = tuple(last - first + 1 for first, last in spans)
        newest = [last for _, last in spans]
    else:
        taps = tuple(ceil_div(k, s) for k, s in zip(kernel, stride, strict=True))
    data = weight.new_zeros((1 if phases_in_columns else count, *taps, c_in, pitch), dtype=dtype)
    for index, (row, column) in enumerate(product(*(phases.phases(*axis) for axis in axes))):
        own = weight[:, :, row.first :: stride[0], column.first :: stride[1]]
        own = own.permute(2, 3, 0, 1).to(dtype)  # [tap_h, tap_w, c_in, c_out]
        if phases_in_columns:
            top, left = newest[0] - row.base, newest[1] - column.base
            place = data[0, top : top + own.shape[0], left : left + own.shape[1]]
            place[..., index * c_out : (index + 1) * c_out] = own
        else:
            # With fewer taps in a phase its rows move up: [tap_h * tap_w * c_in] without a gap.
            rows = data[index].view(-1, pitch)
            rows[: own.shape[0] * own.shape[1] * c_in, :c_out] = own.reshape(-1, c_out)
    data = data.view(-1, pitch)
    return PackedWeight(
        data=data if scale is None else data.t().contiguous(),
        c_in=c_in,
        c_out=c_out,
        kernel=(kernel[0], kernel[1]),
        stride=tuple(stride),
        padding=tuple(padding),
        output_padding=tuple(output_padding),
        taps=(taps[0], taps[1]),
        phases_in_columns=phases_in_columns,
        scale=scale,
    )


def pack_upsampled(
    weight: torch.Tensor, padding: tuple[int, int, int, int], dtype: torch.dtype, **options: bool
) -> PackedWeight:
    """Packs a convolution of an input upsampled by two (nearest), stride 1, padded with zeros.

    weight is [c_out, c_in, kernel_h, kernel_w] of the convolution. Taps that read the same input
    pixel are added up beforehand, per output phase: what is left is a transposed convolution of
    stride 2, and k3 p1 takes 4 products per pixel and channel instead of 9.
    """
    axes = [merged_taps(weight.shape[2 + i], padding[i], padding[2 + i], weight) for i in range(2)]
    (merge_h, pads_h, extra_h), (merge_w, pads_w, extra_w) = axes
    # [c_out, c_in, kernel_h, kernel_w] -> [c_in, c_out, taps_h, taps_w]
    merged = torch.einsum("oihw,th,uw->iotu", weight.float(), merge_h, merge_w)
    return pack(
        merged,
        (2, 2),
        (pads_h[0], pads_w[0], pads_h[1], pads_w[1]),
        dtype,
        output_padding=(extra_h, extra_w),
        **options,
    )


def merged_taps(
    kernel: int, before: int, after: int, like: torch.Tensor
) -> tuple[torch.Tensor, tuple[int, int], int]:
    """One axis of `pack_upsampled`: which taps are added up, the padding, the output padding.

    Tap k of output 2q + phase reads upsampled row 2q + phase + k - before: input row q + shift with
    shift = (phase + k - before) // 2. As a transposed convolution of padding p it is tap
    phase - 2 shift + p.
    """
    taps = [(phase - 2 * ((phase + k - before) // 2), k) for phase in (0, 1) for k in range(kernel)]
    pad = -min(tap for tap, _ in taps)
    merge = like.new_zeros((max(tap for tap, _ in taps) + pad + 1, kernel), dtype=torch.float32)
    for tap, k in taps:
        merge[tap + pad, k] = 1
    # (size - 1) * 2 + taps - pad - end = 2 * size + before + after - kernel + 1
    end = merge.shape[0] - pad - 2 - (before + after - kernel + 1)
    return merge, (pad, max(end, 0)), max(-end, 0)
