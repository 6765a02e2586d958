"""ESRGAN: Wang et al., "ESRGAN: enhanced super-resolution generative adversarial networks", 2018:
residual in residual dense blocks without norms, residuals scaled by 0.2, nearest upsampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all that came before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(channels + i * growth, growth, 3, 1, 1) for i in range(4)]
        )
        self.last = nn.Conv2d(channels + 4 * growth, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in self.convs:
            seen.append(F.leaky_relu(conv(torch.cat(seen, dim=1)), 0.2))
        return x + 0.2 * self.last(torch.cat(seen, dim=1))


class RRDB(nn.Module):
    """Three dense blocks, their residual scaled again."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[DenseBlock(channels, growth) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.blocks(x)


class ESRGAN(nn.Module):
    """Images [N, 3, H, W] -> images [N, 3, 4 * H, 4 * W], unbounded about 0..1."""

    def __init__(self, width: int, growth: int, blocks: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.Sequential(*[RRDB(width, growth) for _ in range(blocks)])
        self.after = nn.Conv2d(width, width, 3, 1, 1)
        self.up1 = nn.Conv2d(width, width, 3, 1, 1)
        self.up2 = nn.Conv2d(width, width, 3, 1, 1)
        self.high = nn.Conv2d(width, width, 3, 1, 1)
        self.last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        x = x + self.after(self.body(x))
        for up in (self.up1, self.up2):
            x = F.leaky_relu(up(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return 0.05 * self.last(F.leaky_relu(self.high(x), 0.2))
