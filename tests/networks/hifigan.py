"""HiFi-GAN: Kong, Kim, Bae, "HiFi-GAN: generative adversarial networks for efficient and high
fidelity speech synthesis", 2020: transposed 1-D convolutions and multi-receptive-field fusion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.weights import weight_normed


class ResidualBlock(nn.Module):
    """Residual pairs of convolutions, the first of each dilated (appendix A.1)."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()

        def conv(dilation: int) -> nn.Module:
            padding = dilation * (kernel - 1) // 2
            layer = nn.Conv1d(channels, channels, kernel, 1, padding, dilation)
            return weight_normed(layer)

        self.dilated = nn.ModuleList([conv(d) for d in dilations])
        self.plain = nn.ModuleList([conv(1) for _ in dilations])

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + 0.3 * plain(F.leaky_relu(dilated(F.leaky_relu(x, 0.1)), 0.1))
        return x


class HifiGan(nn.Module):
    """Mel spectrograms [N, bands, frames] -> tanh waves [N, 1, 16 * frames]."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.before = weight_normed(nn.Conv1d(bands, width * 4, 7, 1, 3))
        self.ups = nn.ModuleList(
            [
                weight_normed(nn.ConvTranspose1d(width * 4, width * 2, 16, 8, 4)),
                weight_normed(nn.ConvTranspose1d(width * 2, width, 4, 2, 1)),
            ]
        )
        self.fields = nn.ModuleList(
            [
                nn.ModuleList([ResidualBlock(c, k, (1, 3)) for k in (3, 5)])
                for c in (width * 2, width)
            ]
        )
        self.after = weight_normed(nn.Conv1d(width, 1, 7, 1, 3))

    def forward(self, mel: Tensor) -> Tensor:
        x = self.before(mel)
        for up, blocks in zip(self.ups, self.fields, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            x = sum(block(x) for block in blocks) / len(blocks)
        return torch.tanh(0.3 * self.after(F.leaky_relu(x)))
