"""pix2pix: Isola et al., "Image-to-image translation with conditional adversarial
networks", 2017."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """Images [N, 3, 32, 32] -> tanh images [N, 3, 32, 32]; each level is skipped to its mirror.

    Dropout is in the network, as in the paper, and off in eval mode.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        down = [3, width, width * 2, width * 4, width * 4]
        self.down = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(down)])
        self.down_norms = nn.ModuleList([nn.BatchNorm2d(c) for c in down[2:-1]])
        up = [(down[4], down[3]), (down[3] * 2, down[2]), (down[2] * 2, down[1]), (down[1] * 2, 3)]
        self.up = nn.ModuleList([nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in up])
        self.up_norms = nn.ModuleList([nn.BatchNorm2d(b) for _, b in up[:-1]])
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down[0](x)
        skips = [x]
        for conv, norm in zip(self.down[1:3], self.down_norms, strict=True):
            x = norm(conv(F.leaky_relu(x, 0.2)))
            skips.append(x)
        x = self.down[3](F.leaky_relu(x, 0.2))  # 2x2, without a norm
        for index, norm in enumerate(self.up_norms):
            x = norm(self.up[index](F.relu(x)))
            x = torch.cat([self.dropout(x) if index == 0 else x, skips.pop()], dim=1)
        return torch.tanh(self.up[3](F.relu(x)) * 0.5)
