"""The networks that image-to-image recipes share: residual blocks, a U-Net, a patch discriminator.

None has a normalisation: what it makes of a place does not depend on the rest of the image, so
that tiles of a large image agree with the whole.

U-Net: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015).
Blocks: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution" (2017).
Patch discriminator: Isola et al., "Image-to-Image Translation with Conditional Adversarial
Networks" (2017).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class Block(nn.Module):
    """x + conv(relu(conv(x))), at [N, width, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.second(torch.relu(self.first(x)))
        return y


class UNet(nn.Module):
    """Images [N, channels, H, W] to [N, out, H, W]; H and W are multiples of 2 ** len(widths).

    Every level halves the size, the first one included, and what a level saw is added where the
    way up comes by again. It starts as zero: the last weights are.

    Args:
        widths: the channels of each level, from half the size down.
        blocks: residual blocks per level, on the way down and again on the way up.
    """

    def __init__(self, channels: int, out: int, widths: tuple[int, ...], blocks: int = 1) -> None:
        super().__init__()
        first = widths[0]
        halve: list[nn.Module] = [nn.Conv2d(channels, first, 4, 2, 1)]
        double: list[nn.Module] = [nn.ConvTranspose2d(first, out, 4, 2, 1)]
        for above, here in pairwise(widths):
            halve.append(nn.Conv2d(above, here, 2, 2))
            double.append(nn.ConvTranspose2d(here, above, 2, 2))
        for weight in double[0].parameters():
            nn.init.zeros_(weight)
        self.down = nn.ModuleList(
            nn.Sequential(step, *[Block(width) for _ in range(blocks)])
            for step, width in zip(halve, widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(*[Block(width) for _ in range(blocks)], step)
            for step, width in reversed(list(zip(double, widths, strict=True)))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = []
        for down in self.down:
            x = down(x)
            seen.append(x)
        x = self.up[0](seen.pop())
        for up in list(self.up)[1:]:
            x = up(x + seen.pop())
        return x


class PatchDiscriminator(nn.Sequential):
    """Images [N, channels, H, W] to logits [N, 1, H / 8, W / 8], one for each neighbourhood."""

    def __init__(self, channels: int, width: int = 32) -> None:
        layers: list[nn.Module] = []
        for depth, wide in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(depth, wide, 4, 2, 1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 3, padding=1))
