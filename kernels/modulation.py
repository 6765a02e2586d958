"""Modulation of a convolution: scales of every sample's channels, and noise (StyleGAN2).

    scale_out[n, o] * convolution(scale_in[n, c] * x[n, c], weight) + noise[n, pixel]

One weight serves all samples. The input is scaled between its load and the product, the rest comes
before the epilogue; any of the three may be left out, and may be the same for all samples.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
import triton
import triton.language as tl

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

    def arguments(
        self, like: torch.Tensor, channels: tuple[int, int], out_size: tuple[int, int]
    ) -> dict[str, Any]:
        """A kernel's arguments. `like`, which is the input, stands for absent pointers.

        Args:
            like: [N, C_IN, H, W].
            channels: C_IN and C_OUT.
            out_size: height and width of the output.
        """
        rows = {"scale_in": channels[:1], "scale_out": channels[1:], "noise": out_size}
        result: dict[str, Any] = {}
        for field in fields(self):
            value, name = getattr(self, field.name), field.name
            if value is not None:
                _check(name, value, like.shape[0], rows[name])
            result[name] = like if value is None else value
            # Elements from one sample to the next: none where all share one.
            own = value is not None and value.shape[0] > 1
            result[f"{name}_pitch"] = value.stride(0) if own else 0
            result[f"HAS_{name.upper()}"] = value is not None
        return result

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
    scale_in,
    scale_in_pitch,
    image,  # [BLOCK_PIXELS]
    first_image,
    images,
    channel,  # [BLOCK_K]
    C_IN: tl.constexpr,
    ONE_IMAGE: tl.constexpr,  # all pixels are of first_image
):
    """The input times its scale, rounded to the input's own type."""
    exists = channel < C_IN
    if ONE_IMAGE:
        row = scale_in + first_image.to(tl.int64) * scale_in_pitch + channel
        scale = tl.load(row, mask=exists, other=0.0)[None, :]
    else:
        row = scale_in + image.to(tl.int64)[:, None] * scale_in_pitch + channel[None, :]
        scale = tl.load(row, mask=(image < images)[:, None] & exists[None, :], other=0.0)
    return (a.to(tl.float32) * scale.to(tl.float32)).to(a.dtype)


@triton.jit
def modulate_output(
    sums,  # [BLOCK_PIXELS, BLOCK_COLUMNS] float32
    scale_out,
    scale_out_pitch: tl.constexpr,  # 0: all samples share one
    noise,
    noise_pitch,
    image,  # [BLOCK_PIXELS]
    channel,  # [BLOCK_COLUMNS]
    channel_exists,  # [BLOCK_COLUMNS]
    pixel,  # [BLOCK_PIXELS, 1 or BLOCK_COLUMNS]: of the output image
    pixel_exists,  # of the same shape
    images,
    adds_noise,  # of the programs that share a sum, one
    HAS_SCALE_OUT: tl.constexpr,
    HAS_NOISE: tl.constexpr,
):
    """The sums times their scale, plus noise: linear, so that parts of sums take it as well."""
    image64 = image.to(tl.int64)[:, None]
    if HAS_SCALE_OUT and scale_out_pitch == 0:
        scale = tl.load(scale_out + channel, channel_exists, other=0.0)
        sums *= scale.to(tl.float32)[None, :]
    elif HAS_SCALE_OUT:
        mask = (image < images)[:, None] & channel_exists[None, :]
        scale = tl.load(scale_out + image64 * scale_out_pitch + channel[None, :], mask, other=0.0)
        sums *= scale.to(tl.float32)
    if HAS_NOISE:
        mask = pixel_exists & adds_noise
        sums += tl.load(noise + image64 * noise_pitch + pixel, mask, other=0.0).to(tl.float32)
    return sums
