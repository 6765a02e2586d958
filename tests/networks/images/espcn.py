"""ESPCN: Shi et al., "Real-time single image and video super-resolution using an efficient
sub-pixel convolutional neural network", 2016."""

from __future__ import annotations

from torch import nn


def espcn(width: int, factor: int = 3) -> nn.Module:
    """Luma [N, 1, H, W] -> luma [N, 1, factor * H, factor * W]."""
    return nn.Sequential(
        nn.Conv2d(1, width * 2, 5, 1, 2),
        nn.Tanh(),
        nn.Conv2d(width * 2, width, 3, 1, 1),
        nn.Tanh(),
        nn.Conv2d(width, factor * factor, 3, 1, 1),
        nn.PixelShuffle(factor),
    )
