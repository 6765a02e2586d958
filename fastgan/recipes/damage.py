"""What happens to photographs: blur, noise, JPEG. Images are [N, 3, H, W] in [-1, 1]."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

Range = tuple[float, float]


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


def from_bytes(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> torch.Tensor:
    """uint8 [N, H, W, C] to [N, C, H, W] in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
