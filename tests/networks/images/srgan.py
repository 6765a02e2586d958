"""SRGAN: Ledig et al., "Photo-realistic single image super-resolution using a generative
adversarial network", 2017: PReLU, residual blocks, a global skip, pixel shuffles."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """conv, norm, PReLU, conv, norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SRGAN(nn.Module):
    """Images [N, 3, H, W] -> tanh images [N, 3, 4 * H, 4 * W]."""

    def __init__(self, width: int, blocks: int = 2) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, 1, 4), nn.PReLU())
        self.blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)])
        self.after = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width))
        up = [nn.Conv2d(width, width * 4, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(width)]
        again = [nn.Conv2d(width, width * 4, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU()]
        self.tail = nn.Sequential(*up, *again, nn.Conv2d(width, 3, 9, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return torch.tanh(0.3 * self.tail(x + self.after(self.blocks(x))))
