"""AdaIN: Huang, Belongie, "Arbitrary style transfer in real-time with adaptive instance
normalization", 2017: the decoder, and the normalisation of content features before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over its pixels."""
    mean = features.mean(dim=(2, 3), keepdim=True)
    variance = features.var(dim=(2, 3), keepdim=True)
    return mean, torch.sqrt(variance + 1e-5)


class AdaInDecoder(nn.Module):
    """Content and style features [N, 4 * width, H, W] -> images [N, 3, 4 * H, 4 * W] near 0..1."""

    def __init__(self, width: int, alpha: float = 0.8) -> None:
        super().__init__()
        self.alpha = alpha

        def padded(before: int, after: int) -> list[nn.Module]:
            return [nn.ReflectionPad2d(1), nn.Conv2d(before, after, 3), nn.ReLU()]

        self.decoder = nn.Sequential(
            *padded(width * 4, width * 2),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *padded(width * 2, width * 2),
            *padded(width * 2, width),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *padded(width, width),
            *padded(width, 3)[:2],
        )

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        mean, deviation = statistics(content)
        style_mean, style_deviation = statistics(style)
        mixed = (content - mean) / deviation * style_deviation + style_mean
        return 0.3 * self.decoder(self.alpha * mixed + (1 - self.alpha) * content)
