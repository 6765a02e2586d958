"""Context encoder: Pathak et al., "Context encoders: feature learning by inpainting", 2016: an
encoder and a decoder joined by a channel-wise fully connected layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelwiseDense(nn.Module):
    """Each channel's pixels through a matrix of their own, then a 1x1 convolution (section 3.1)."""

    def __init__(self, channels: int, pixels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, pixels, pixels) * pixels**-0.5)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).unsqueeze(2)  # [N, C, 1, pixels]
        return self.mix(torch.relu(torch.matmul(rows, self.weight)).view(x.shape))


class ContextEncoder(nn.Module):
    """Images with a hole [N, 3, 32, 32] -> tanh images of its centre [N, 3, 16, 16]."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def down(before: int, after: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]

        def up(before: int, after: int) -> list[nn.Module]:
            layer = nn.ConvTranspose2d(before, after, 4, 2, 1)
            return [layer, nn.BatchNorm2d(after), nn.ReLU()]

        self.encoder = nn.Sequential(*down(3, width), *down(width, width * 2), *down(width * 2, 8))
        self.middle = ChannelwiseDense(8, 16)
        self.decoder = nn.Sequential(*up(8, width), nn.ConvTranspose2d(width, 3, 4, 2, 1))

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(self.decoder(self.middle(self.encoder(image))))
