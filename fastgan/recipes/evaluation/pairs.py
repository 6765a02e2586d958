"""What the judges of image-to-image models share: held-out details, PSNR, SSIM.

Everything is measured in whole bytes, as a file holds an image, and is a mean over the details.
"""

from __future__ import annotations

import numpy as np
import torch

from fastgan.recipes.denoise import as_bytes
from fastgan.recipes.photographs import photographs
from fastgan.recipes.system import fixed


def details(count: int = 8, size: int = 128, seed: int = 7) -> torch.Tensor:
    """The same square details of the held-out photographs each time, [count, 3, size, size]."""
    return photographs("test").patches(count, size, fixed(seed), turn=False)


def psnr(images: torch.Tensor, truth: torch.Tensor, where: torch.Tensor | None = None) -> float:
    """Peak signal to noise ratio in dB, mean over the images [N, C, H, W] in [-1, 1].

    Args:
        where: [N, 1, H, W], 1 where it is measured; everywhere without it.
    """
    difference = as_bytes(images).astype(np.float64) - as_bytes(truth)
    error = np.square(difference).mean(-1)  # [N, H, W]
    part = np.ones_like(error) if where is None else where[:, 0].numpy()
    means = (error * part).sum((1, 2)) / part.sum((1, 2))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(means, 1e-2))))


def ssim(images: torch.Tensor, truth: torch.Tensor) -> float:
    """Structural similarity in colour (Wang et al., 2004), mean over the images."""
    from skimage.metrics import structural_similarity

    pairs = zip(as_bytes(images), as_bytes(truth), strict=True)
    return float(np.mean([structural_similarity(a, b, channel_axis=2) for a, b in pairs]))


def distance(images: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean absolute difference, in steps of 255."""
    return float(np.abs(as_bytes(images).astype(np.float64) - as_bytes(truth)).mean())
