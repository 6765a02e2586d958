"""What the cases of the kernels' table share: how their tensors are drawn, what is accepted."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch

from .e4m3 import CASE_SCALE, E4M3
from .modulation import UNMODULATED, Modulated, Modulation
from .types import DTYPES


def accepts(case: Any) -> str | None:
    """None, or why the case is for the library op."""
    if case.dtype not in DTYPES:
        return f"dtype {case.dtype}: needs one of {DTYPES}"
    return None


def accepts_e4m3(case: Any) -> str | None:
    """The same of a convolution, which takes e4m3 too."""
    if case.dtype != E4M3:
        return accepts(case)
    if case.c_in % 16 or case.modulated:
        return "e4m3: needs a multiple of 16 channels, unmodulated"
    return None


@dataclass(frozen=True)
class Images:
    """What every case of images has."""

    batch: int
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Product:
    """What every case of a convolution has."""

    batch: int
    c_in: int
    height: int
    width: int
    c_out: int


@dataclass(frozen=True)
class Filtered:
    """What every case of a filter over images has.

    wide: extra channels of the images of which input, residual and output are a part.
    """

    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    _: KW_ONLY
    bias: bool = True
    residual: bool = False
    wide: int = 0
    modulated: Modulated | None = None

    @property
    def steps(self) -> str:
        """Kernel and stride, for a label."""
        return f"k{'x'.join(map(str, self.kernel))} s{'x'.join(map(str, self.stride))}"

    @property
    def places(self) -> list[str]:
        """Words of a label on what lies around it."""
        words = ["residual"] if self.residual else []
        words += [f"in images of {self.wide} more"] if self.wide else []
        return words + (["modulated"] if self.modulated else [])


@dataclass(frozen=True)
class Padded(Filtered):
    """What every case of a filter has that pads in every way, and may enlarge what it reads."""

    dilation: tuple[int, int] = (1, 1)
    pad_mode: str = "zeros"
    upsample: bool = False

    @property
    def geometry(self) -> dict[str, Any]:
        """As the kernels' `pack` take it."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "pad_mode": self.pad_mode,
            "upsample": self.upsample,
        }

    @property
    def reads(self) -> list[str]:
        """Words of a label on how it reads its input."""
        words = [self.pad_mode] if self.pad_mode != "zeros" else []
        return words + (["upsampled"] if self.upsample else [])


@dataclass(frozen=True)
class Draw:
    """Random tensors for a case."""

    case: Any
    generator: torch.Generator | None
    device: torch.device

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def image(
        self,
        channels: int,
        height: int,
        width: int,
        dtype: torch.dtype | None = None,
        mean: float = 0.0,
    ) -> torch.Tensor:
        """[batch, channels, height, width], channels last, after `case.wide` others."""
        dtype, wide = dtype or self.case.dtype, self.case.wide
        x = self.normal(self.case.batch, channels + wide, height, width) + mean
        x = (x / CASE_SCALE if dtype == E4M3 else x).to(dtype)
        return x.contiguous(memory_format=torch.channels_last)[:, wide:]

    def slopes(self, channels: int) -> torch.Tensor | None:
        """Of a prelu, if the case has one."""
        return self.normal(channels) if self.case.epilogue.activation == "prelu" else None

    def modulation(self, channels: tuple[int, int], size: tuple[int, int]) -> Modulation:
        """The case's modulation of inputs and outputs of so many channels, or none."""
        if self.case.modulated is None:
            return UNMODULATED
        return self.case.modulated.draw(
            self.case.batch, channels, size, self.generator, self.device
        )
