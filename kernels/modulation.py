"""Modulation of a convolution: scales of every sample's channels, and noise (StyleGAN2).

    scale_out[n, o] * convolution(scale_in[n, c] * x[n, c], weight) + noise[n, pixel]

One weight serves all samples. The input is scaled between its load and the product, the rest comes
before the epilogue; any of the three may be left out, and may be the same for all samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .records import Modulating
from .types import Config


@dataclass(frozen=True)
class Modulation:
    """The scales and the noise of one launch, each of N samples or of one for all.

    Attributes:
        scale_in: [N, C_IN], of any floating-point type.
        scale_out: [N, C_OUT].
        noise: [N, height, width] of the output.
    """

    scale_in: torch.Tensor | None = None
    scale_out: torch.Tensor | None = None
    noise: torch.Tensor | None = None

    def record(
        self, samples: int, channels: tuple[int, int], out_size: tuple[int, int]
    ) -> Modulating:
        """What a kernel is told of it.

        Args:
            samples: how many images there are.
            channels: C_IN and C_OUT.
            out_size: height and width of the output.
        """
        rows = {"scale_in": channels[:1], "scale_out": channels[1:], "noise": out_size}
        for name, row in rows.items():
            if (value := getattr(self, name)) is not None:
                _check(name, value, samples, row)
        return Modulating(
            scale_in=self.scale_in,
            scale_in_pitch=_own_pitch(self.scale_in),
            scale_out=self.scale_out,
            noise=self.noise,
            noise_pitch=_own_pitch(self.noise),
        )

    @property
    def scale_out_pitch(self) -> int:
        """Elements from one sample's scales of the output to the next one's, see `_own_pitch`."""
        return _own_pitch(self.scale_out)

    def reference_input(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, C, H, W], scaled and rounded to its own type, in float64."""
        if self.scale_in is None:
            return x.double()
        return (x.float() * self.scale_in.float()[:, :, None, None]).to(x.dtype).double()

    def reference_output(self, sums: torch.Tensor) -> torch.Tensor:
        """What becomes of the product [N, C, H, W] in float64."""
        if self.scale_out is not None:
            sums = sums * self.scale_out.double()[:, :, None, None]
        return sums if self.noise is None else sums + self.noise.double()[:, None]


UNMODULATED = Modulation()


def _own_pitch(value: torch.Tensor | None) -> int:
    """Elements from one sample to the next: none where all share one."""
    return value.stride(0) if value is not None and value.shape[0] > 1 else 0


def is_swapped(config: Config, through_registers: bool) -> bool:
    """Whether a tile through descriptors has the pixels as its second factor.

    wgmma's first factor has at least 64 rows. An input that is scaled or normalised passes through
    registers, from where wgmma takes a first factor as it is, but no second one.
    """
    first = through_registers and config.block_m >= 64
    return config.descriptors and config.block_n >= 64 and not first


def _check(name: str, value: torch.Tensor, samples: int, row: tuple[int, ...]) -> None:
    fits = tuple(value.shape[1:]) == row and value.shape[0] in (1, samples)
    if not fits or not value[0].is_contiguous():
        raise ValueError(
            f"{name}: found {tuple(value.shape)} with strides {value.stride()}, "
            f"needed [{samples} or 1, {', '.join(map(str, row))}], each sample contiguous"
        )


@dataclass(frozen=True)
class Modulated:
    """What a case of a kernel's table is modulated by: random scales and noise of these kinds.

    Attributes:
        scale_in, scale_out, noise: whether there is one.
        shared: whether all samples share one.
    """

    scale_in: bool = True
    scale_out: bool = True
    noise: bool = False
    shared: bool = False

    def draw(
        self,
        samples: int,
        channels: tuple[int, int],
        out_size: tuple[int, int],
        generator: torch.Generator | None,
        device: torch.device,
    ) -> Modulation:
        """Random scales around one, and noise."""
        n = 1 if self.shared else samples

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn((n, *shape), generator=generator, device=device)

        return Modulation(
            1 + 0.5 * normal(channels[0]) if self.scale_in else None,
            1 + 0.5 * normal(channels[1]) if self.scale_out else None,
            normal(*out_size) if self.noise else None,
        )


@triton.jit
def scale_input(
    a,  # [BLOCK_PIXELS, BLOCK_K]
    mod,  # Modulating, with a scale_in
    image,  # [BLOCK_PIXELS]
    first_image,
    images,
    channel,  # [BLOCK_K]
    layer: tl.constexpr,  # Layer
    how: tl.constexpr,  # Tiling
):
    """The input times its scale, rounded to the input's own type."""
    exists = channel < layer.c_in
    if how.one_image:
        row = mod.scale_in + first_image.to(tl.int64) * mod.scale_in_pitch + channel
        scale = tl.load(row, mask=exists, other=0.0)[None, :]
    else:
        row = mod.scale_in + image.to(tl.int64)[:, None] * mod.scale_in_pitch + channel[None, :]
        scale = tl.load(row, mask=(image < images)[:, None] & exists[None, :], other=0.0)
    return (a.to(tl.float32) * scale.to(tl.float32)).to(a.dtype)


@triton.jit
def modulate_output(
    sums,  # [BLOCK_PIXELS, BLOCK_COLUMNS] float32
    mod,  # Modulating
    image,  # [BLOCK_PIXELS]
    channel,  # [BLOCK_COLUMNS]
    channel_exists,  # [BLOCK_COLUMNS]
    pixel,  # [BLOCK_PIXELS, 1 or BLOCK_COLUMNS]: of the output image
    pixel_exists,  # of the same shape
    images,
    adds_noise,  # of the programs that share a sum, one
    SCALE_OUT_PITCH: tl.constexpr,  # 0: all samples share one
):
    """The sums times their scale, plus noise: linear, so that parts of sums take it as well."""
    image64 = image.to(tl.int64)[:, None]
    if mod.scale_out is not None:
        if SCALE_OUT_PITCH == 0:
            scale = tl.load(mod.scale_out + channel, channel_exists, other=0.0)
            sums *= scale.to(tl.float32)[None, :]
        else:
            mask = (image < images)[:, None] & channel_exists[None, :]
            row = mod.scale_out + image64 * SCALE_OUT_PITCH + channel[None, :]
            sums *= tl.load(row, mask, other=0.0).to(tl.float32)
    if mod.noise is not None:
        mask = pixel_exists & adds_noise
        place = mod.noise + image64 * mod.noise_pitch + pixel
        sums += tl.load(place, mask, other=0.0).to(tl.float32)
    return sums
