"""Progressive GAN: Karras et al., "Progressive growing of GANs for improved quality, stability, and
variation", 2018: pixel norm, equalised learning rate, nearest upsampling, a level's fade-in."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pixel_norm(x: Tensor) -> Tensor:
    """Each pixel's channels to unit mean square (section 4.2)."""
    return x * torch.rsqrt(torch.mean(x * x, dim=1, keepdim=True) + 1e-8)


class EqualisedConv(nn.Module):
    """Weights N(0, 1), scaled by He's constant in the graph (section 4.1)."""

    def __init__(self, before: int, after: int, kernel: int, gain: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.bias = nn.Parameter(0.1 * torch.randn(after))
        self.scale = math.sqrt(gain / (before * kernel * kernel))
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class Level(nn.Module):
    """Two convolutions at one resolution, each with leaky relu and pixel norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = EqualisedConv(channels, channels, 3)
        self.conv2 = EqualisedConv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            x = pixel_norm(F.leaky_relu(conv(x), 0.2))
        return x


class ProgressiveGenerator(nn.Module):
    """Latent [N, channels] -> images [N, 3, 16, 16], the last level faded in by `alpha`."""

    def __init__(self, channels: int, levels: int = 2, alpha: float = 0.6) -> None:
        super().__init__()
        self.channels, self.alpha = channels, alpha
        self.first = nn.Parameter(torch.randn(channels * 16, channels))
        self.first_bias = nn.Parameter(0.1 * torch.randn(channels * 16))
        self.levels = nn.ModuleList([Level(channels) for _ in range(levels)])
        self.to_rgb = nn.ModuleList([EqualisedConv(channels, 3, 1, 0.3) for _ in range(2)])

    def forward(self, z: Tensor) -> Tensor:
        scale = math.sqrt(2.0 / self.channels) / 4  # of the paper: the gain of this layer is less
        x = F.linear(pixel_norm(z), self.first * scale, self.first_bias)
        x = pixel_norm(F.leaky_relu(x.view(-1, self.channels, 4, 4), 0.2))
        for level in self.levels:
            before = F.interpolate(x, scale_factor=2, mode="nearest")
            x = level(before)
        coarse, fine = self.to_rgb
        return torch.lerp(coarse(before), fine(x), self.alpha)
