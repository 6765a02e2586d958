"""VQ-VAE decoder: van den Oord et al., "Neural discrete representation learning", 2017."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """relu, 3x3 convolution, relu, 1x1 convolution, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))


class VqVaeDecoder(nn.Module):
    """Codes int64 [N, H, W] in 0..codes - 1 -> images [N, 3, 4 * H, 4 * W]."""

    def __init__(self, codes: int, embedding: int, width: int) -> None:
        super().__init__()
        self.codebook = nn.Embedding(codes, embedding)
        self.body = nn.Sequential(
            nn.Conv2d(embedding, width, 3, 1, 1),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(width // 2, 3, 4, 2, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        return 0.3 * self.body(self.codebook(codes).permute(0, 3, 1, 2))
