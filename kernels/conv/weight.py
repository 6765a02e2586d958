"""Weights of a convolution as `conv` reads them: packed once, at load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from ..e4m3 import E4M3, quantise
from ..types import ceil_div

PAD_MODES = ("zeros", "reflect", "edge")


@dataclass(frozen=True, kw_only=True)
class Packed(ABC):
    """Weights as the kernel reads them, with the geometry they were packed for."""

    data: torch.Tensor  # [taps and channels in, columns padded]; in e4m3 its transpose
    c_in: int
    c_out: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, left, bottom, right
    scale: torch.Tensor | None = None  # [c_out] float32, in e4m3

    @property
    def pitch(self) -> int:
        """The columns, padded."""
        return self.data.shape[1 if self.scale is None else 0]

    @property
    def columns(self) -> int:
        return self.c_out

    @property
    def copies(self) -> int:
        """How often the pixels of a phase are tiled."""
        return 1

    @property
    @abstractmethod
    def chunks(self) -> int:
        """How many chunks of statistics a tile has."""

    @property
    @abstractmethod
    def geometry(self) -> dict[str, Any]:
        """The fields of `kernel.Layer` that are the layer's own."""

    @abstractmethod
    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what is computed."""

    def phase_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a phase of it."""
        return self.output_size(height, width)

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the result."""
        return (self.c_out, *self.output_size(height, width))


@dataclass(frozen=True, kw_only=True)
class PackedWeight(Packed):
    """Of a convolution: data [kernel_h * kernel_w * c_in, c_out padded]."""

    dilation: tuple[int, int]
    pad_mode: str
    upsample: bool  # the input is read as if each pixel were a square of four
    shuffle: int  # columns are (row, column, channel) of squares of shuffle x shuffle pixels
    shuffle_mode: str

    @property
    def chunks(self) -> int:
        """How many chunks of statistics a tile has; shuffled, it has none."""
        return 1 if self.shuffle == 1 else 0

    @property
    def channels(self) -> int:
        """Channels of the result, after the shuffle."""
        return self.c_out // self.shuffle**2

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Of the convolution, before the shuffle."""
        scale = 2 if self.upsample else 1
        padded = (
            height * scale + self.padding[0] + self.padding[2],
            width * scale + self.padding[1] + self.padding[3],
        )
        reach = [(self.kernel[i] - 1) * self.dilation[i] + 1 for i in range(2)]
        return (
            (padded[0] - reach[0]) // self.stride[0] + 1,
            (padded[1] - reach[1]) // self.stride[1] + 1,
        )

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the result, after the shuffle."""
        rows, columns = self.output_size(height, width)
        return self.channels, rows * self.shuffle, columns * self.shuffle

    def check_reflection(self, height: int, width: int) -> None:
        """ValueError where reflected padding would reach beyond the other side."""
        scale = 2 if self.upsample else 1
        sizes = (height * scale, width * scale) * 2
        reaches = any(p >= n for p, n in zip(self.padding, sizes, strict=True))
        if self.pad_mode == "reflect" and reaches:
            raise ValueError(f"x: found {height}x{width}, needed more than the padding reflects")

    @property
    def geometry(self) -> dict[str, Any]:
        """What `kernel.Layer` has of it."""
        return {
            "transposed": False,
            "taps_h": self.kernel[0],
            "taps_w": self.kernel[1],
            "tap_step_h": self.dilation[0],
            "tap_step_w": self.dilation[1],
            "step_h": self.stride[0],
            "step_w": self.stride[1],
            "base_h": -self.padding[0],
            "base_w": -self.padding[1],
            "pad_mode": self.pad_mode,
            "upsample": self.upsample,
            "shuffle": self.shuffle,
            "shuffle_crd": self.shuffle > 1 and self.shuffle_mode == "CRD",
            "norm_padded": self.pad_mode == "zeros" and any(self.padding),
        }


def pack(
    weight: torch.Tensor,
    dtype: torch.dtype,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    pad_mode: str = "zeros",
    upsample: bool = False,
    shuffle: int = 1,
    shuffle_mode: str = "CRD",
) -> PackedWeight:
    """Packs weight [c_out, c_in, kernel_h, kernel_w] (any batch norm folded in), once at load.

    padding is (top, left, bottom, right) and applies after the upsampling. With shuffle > 1 the
    output channels become squares of pixels, in ONNX DepthToSpace's order: "CRD" is also
    PyTorch's PixelShuffle.
    """
    if pad_mode not in PAD_MODES:
        raise ValueError(f"pad_mode: found {pad_mode!r}, needed one of {PAD_MODES}")
    if shuffle_mode not in ("CRD", "DCR"):
        raise ValueError(f"shuffle_mode: found {shuffle_mode!r}, needed 'CRD' or 'DCR'")
    c_out, c_in, kernel_h, kernel_w = weight.shape  # [OIkk]
    if c_out % shuffle**2:
        raise ValueError(f"shuffle: found {c_out} channels, needed a multiple of {shuffle**2}")
    if shuffle_mode == "CRD":
        squares = weight.view(c_out // shuffle**2, shuffle**2, *weight.shape[1:])
        weight = squares.transpose(0, 1).reshape(weight.shape)
    scale = None
    if dtype == E4M3:
        weight, scale = quantise(weight, 0)
    # Rows of whole 32-byte sectors: every load of a tile's row is then aligned.
    data = weight.new_zeros((kernel_h * kernel_w * c_in, ceil_div(c_out, 16) * 16), dtype=dtype)
    data[:, :c_out] = weight.permute(2, 3, 1, 0).reshape(-1, c_out).to(dtype)
    if scale is not None:
        data = data.t().contiguous()
    kernel = (kernel_h, kernel_w)
    return PackedWeight(
        data=data,
        c_in=c_in,
        c_out=c_out,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        pad_mode=pad_mode,
        upsample=upsample,
        shuffle=shuffle,
        shuffle_mode=shuffle_mode,
        scale=scale,
    )
