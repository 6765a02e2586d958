"""StarGAN: Choi et al., "StarGAN: unified generative adversarial networks for multi-domain
image-to-image translation", 2018: the target label is tiled onto the image as channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with affine instance norms, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class StarGAN(nn.Module):
    """Images [N, 3, H, W] and one-hot labels [N, domains] -> tanh images [N, 3, H, W]."""

    def __init__(self, width: int, domains: int, blocks: int = 2) -> None:
        super().__init__()

        def normed(layer: nn.Module, channels: int) -> list[nn.Module]:
            return [layer, nn.InstanceNorm2d(channels, affine=True), nn.ReLU()]

        layers = normed(nn.Conv2d(3 + domains, width, 7, 1, 3, bias=False), width)
        for c in (width, width * 2):
            layers += normed(nn.Conv2d(c, c * 2, 4, 2, 1, bias=False), c * 2)
        layers += [ResidualBlock(width * 4) for _ in range(blocks)]
        for c in (width * 4, width * 2):
            layers += normed(nn.ConvTranspose2d(c, c // 2, 4, 2, 1, bias=False), c // 2)
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        tiled = label[:, :, None, None].repeat(1, 1, image.shape[2], image.shape[3])
        return self.body(torch.cat([image, tiled], dim=1))
