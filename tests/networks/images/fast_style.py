"""Fast style transfer: Johnson, Alahi, Fei-Fei, "Perceptual losses for real-time style transfer and
super-resolution", 2016: all padding at the input, valid residual blocks whose skip is cropped."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ValidBlock(nn.Module):
    """Two 3x3 convolutions without padding, added to the input less its border of 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 2:-2, 2:-2] + self.body(x)


class StyleTransfer(nn.Module):
    """Images [N, 3, H, W] in 0..255, multiples of 4 high and wide -> images like them."""

    def __init__(self, width: int, blocks: int = 2) -> None:
        super().__init__()

        def normed(layer: nn.Module, channels: int) -> list[nn.Module]:
            return [layer, nn.BatchNorm2d(channels), nn.ReLU()]

        w = width
        self.body = nn.Sequential(
            nn.ReflectionPad2d(8 * blocks),
            *normed(nn.Conv2d(3, w, 9, 1, 4), w),
            *normed(nn.Conv2d(w, w * 2, 3, 2, 1), w * 2),
            *normed(nn.Conv2d(w * 2, w * 4, 3, 2, 1), w * 4),
            *[ValidBlock(w * 4) for _ in range(blocks)],
            *normed(nn.ConvTranspose2d(w * 4, w * 2, 3, 2, 1, output_padding=1), w * 2),
            *normed(nn.ConvTranspose2d(w * 2, w, 3, 2, 1, output_padding=1), w),
            nn.Conv2d(w, 3, 9, 1, 4),
        )

    def forward(self, image: Tensor) -> Tensor:
        y = self.body((image - 127.5) / 127.5)
        return (torch.tanh(0.3 * y) + 1) * 127.5
