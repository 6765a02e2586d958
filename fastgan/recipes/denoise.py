"""Restoration of photographs that are noisy, blurred, damaged by JPEG, or all three at once.

A U-Net that is never told which damage it was; what it makes is added to the image. Images are
[N, 3, H, W] in [-1, 1].
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from fastgan.recipes import restoration
from fastgan.recipes.images import from_bytes
from fastgan.recipes.networks import UNet
from fastgan.recipes.photographs import Photographs
from fastgan.recipes.restoration import Restoration, UNetSettings

NAME = "denoise"
Range = tuple[float, float]


SETTINGS = {
    "ship": replace(restoration.SHIP, steps=5000),
    "full": restoration.FULL,
    "quick": UNetSettings(steps=30, batch=4, lr=1e-3, width=8, average=0.9),
}

data = restoration.data


class Denoiser(nn.Module):
    """Damaged images [N, 3, H, W] to whole ones, both in [-1, 1]; H and W are multiples of 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = UNet(3, 3, (width, width * 3 // 2, width * 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = image + self.network(image)
        return restored


def build(settings: UNetSettings, found: tuple[Photographs, Photographs]) -> Restoration:
    """The recipe on these photographs, to train with and held out."""
    return Restoration(NAME, settings, lambda: Denoiser(settings.width), Damage(), found)


# What happens to photographs ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Damage:
    """Blur, then noise, then JPEG, each as strong as chance has it for every image.

    Attributes:
        blur: the standard deviation of the Gaussian, in pixels.
        noise: the standard deviation of the noise, in steps of 255.
        quality: of the JPEG file, 1 to 95; 0 for none.
        share: how often each of the three is left out, of all images.
    """

    blur: Range = (0.4, 1.6)
    noise: Range = (5.0, 50.0)
    quality: Range = (15.0, 85.0)
    share: float = 0.4

    def __call__(self, images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        """The images, damaged, in whole bytes as a file holds them."""
        strengths = []
        for low, high in (self.blur, self.noise, self.quality):
            strength = low + (high - low) * torch.rand(len(images), generator=draw)
            kept = torch.rand(len(images), generator=draw) >= self.share
            strengths.append(strength * kept)
        sigma, noise, quality = strengths
        images = blurred(images, sigma)
        normal = torch.randn(images.shape, generator=draw)
        pixels = as_bytes(images + normal * noise.view(-1, 1, 1, 1) / 127.5)
        return from_bytes(jpeg(pixels, quality))


def blurred(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Each image under its own Gaussian, `sigma` [N] in pixels; 0 leaves it as it is."""
    radius = max(1, int(np.ceil(3 * float(sigma.max()))))
    steps = torch.arange(-radius, radius + 1.0)
    weights = torch.exp(-steps.square() / (2 * sigma.clamp(min=1e-3).square()[:, None]))
    weights = weights / weights.sum(1, keepdim=True)
    count, channels, height, width = images.shape
    rows = weights.repeat_interleave(channels, 0)[:, None, :, None]  # [N * C, 1, K, 1]
    padded = functional.pad(images, [radius] * 4, mode="reflect").flatten(0, 1)[None]
    down = functional.conv2d(padded, rows, groups=count * channels)
    across = functional.conv2d(down, rows.transpose(2, 3), groups=count * channels)
    return across.view(count, channels, height, width)


def jpeg(
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], quality: torch.Tensor
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8 [N, H, W, 3] after a JPEG file of each one's own quality [N]; 0 leaves it as it is."""
    found = pixels.copy()
    for index, level in enumerate(quality.tolist()):
        if level:
            file = io.BytesIO()
            Image.fromarray(pixels[index]).save(file, "JPEG", quality=round(level))
            with Image.open(file) as opened:
                found[index] = np.asarray(opened)
    return found


def as_bytes(images: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """[N, C, H, W] in [-1, 1] to uint8 [N, H, W, C]."""
    pixels = images.float().cpu().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()
