"""Super-resolution, x2 and x4: the closest image, or with `adversarial` one that looks sharper.

Residual blocks without normalisation see the small image, a pixel shuffle enlarges, and what is
learned is only what bicubic interpolation leaves out.

Architecture: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution"
(2017). Adversarial: Ledig et al. (2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from fastgan.errors import ArgumentError
from fastgan.recipes import restoration
from fastgan.recipes.images import in_bytes
from fastgan.recipes.networks import Block
from fastgan.recipes.photographs import Photographs
from fastgan.recipes.restoration import PairSettings, Restoration

NAME = "superres"


@dataclass(frozen=True)
class SuperresSettings(PairSettings):
    """Beside the others: `scale`, 2 or 4; `width`, the channels; `blocks`, how many."""

    scale: int = 2
    width: int = 32
    blocks: int = 4


SETTINGS = {
    "ship": SuperresSettings(steps=3000, lr=5e-4),
    "full": SuperresSettings(steps=100_000, lr=2e-4, width=64, blocks=16, size=128),
    "quick": SuperresSettings(steps=30, batch=4, lr=5e-4, width=8, blocks=1, average=0.9),
}

data = restoration.data


class Upscaler(nn.Module):
    """Images [N, 3, H, W] to [N, 3, H * scale, W * scale], both in [-1, 1]."""

    def __init__(self, scale: int, width: int, blocks: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.tail = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)  # so that it starts as plain interpolation
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        detail = functional.pixel_shuffle(self.tail(self.blocks(self.head(image))), self.scale)
        return detail + functional.interpolate(
            image, scale_factor=float(self.scale), mode="bicubic", align_corners=False
        )


def shrink(images: torch.Tensor, scale: int) -> torch.Tensor:
    """Images as a good camera of fewer pixels takes them: bicubic, antialiased, in whole bytes."""
    height, width = (length // scale for length in images.shape[-2:])
    small = functional.interpolate(images, (height, width), mode="bicubic", antialias=True)
    return in_bytes(small)


def build(settings: SuperresSettings, found: tuple[Photographs, Photographs]) -> Restoration:
    """The recipe on these photographs, to train with and held out.

    Raises:
        ArgumentError: the scale is neither 2 nor 4.
    """
    scale = settings.scale
    if scale not in (2, 4):
        raise ArgumentError("scale", str(scale), "2 or 4")

    def make() -> Upscaler:
        return Upscaler(scale, settings.width, settings.blocks)

    return Restoration(NAME, settings, make, lambda whole, draw: shrink(whole, scale), found)
