"""Gated convolutions: Yu et al., "Free-form image inpainting with gated convolution", 2019: every
convolution makes features and the gate that lets them through; the middle is dilated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedConv(nn.Module):
    """elu(features) * sigmoid(gate), both from one convolution."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(before, after * 2, kernel, stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        features, gate = self.conv(x).chunk(2, dim=1)
        return F.elu(features) * torch.sigmoid(gate)


class GatedInpainting(nn.Module):
    """Images [N, 3, H, W] and masks [N, 1, H, W], 1 where to fill -> images [N, 3, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.down = nn.Sequential(
            GatedConv(5, w, 5),
            GatedConv(w, w * 2, 3, stride=2),
            *[GatedConv(w * 2, w * 2, 3, dilation=d) for d in (1, 2, 4)],
        )
        self.up = GatedConv(w * 2, w, 3)
        self.last = nn.Conv2d(w, 3, 3, 1, 1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        masked = image * (1 - mask)
        x = self.down(torch.cat([masked, torch.ones_like(mask), mask], dim=1))
        x = self.up(F.interpolate(x, scale_factor=2, mode="nearest"))
        painted = self.last(x).clamp(-1, 1)
        return painted * mask + masked
