"""The ResNet generator of WGAN-GP and SNGAN.

Gulrajani et al., "Improved training of Wasserstein GANs", 2017, appendix C;
Miyato et al., "Spectral normalization for generative adversarial networks", 2018, table 4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Wrap = Callable[[nn.Module], nn.Module]


class UpBlock(nn.Module):
    """norm, relu, upsample, conv, norm, relu, conv, beside an upsampled 1x1 convolution."""

    def __init__(self, before: int, after: int, wrap: Wrap) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = wrap(nn.Conv2d(before, after, 3, padding=1))
        self.conv2 = wrap(nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = wrap(nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(F.relu(self.norm1(x)), scale_factor=2)
        y = self.conv2(F.relu(self.norm2(self.conv1(y))))
        return y + self.shortcut(F.interpolate(x, scale_factor=2))


class ResnetGenerator(nn.Module):
    """Latent [N, latent] -> tanh images [N, 3, 4 * 2**blocks, 4 * 2**blocks]."""

    def __init__(
        self, latent: int, width: int, blocks: int = 2, wrap: Wrap = lambda layer: layer
    ) -> None:
        super().__init__()
        self.width = width
        self.dense = wrap(nn.Linear(latent, width * 16))
        self.blocks = nn.Sequential(*[UpBlock(width, width, wrap) for _ in range(blocks)])
        self.norm = nn.BatchNorm2d(width)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).view(-1, self.width, 4, 4)
        return torch.tanh(0.25 * self.to_rgb(F.relu(self.norm(self.blocks(x)))))
