"""Restoration of photographs that are noisy, blurred, damaged by JPEG, or all three at once.

A U-Net that is never told which damage it was; what it makes is added to the image.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fastgan.recipes import restoration
from fastgan.recipes.damage import Damage
from fastgan.recipes.networks import UNet
from fastgan.recipes.photographs import Photographs
from fastgan.recipes.restoration import Restoration, UNetSettings
from fastgan.recipes.system import built

NAME = "denoise"


SETTINGS = {
    "ship": replace(restoration.SHIP, steps=5000),
    "full": restoration.FULL,
    "quick": UNetSettings(steps=30, batch=4, lr=1e-3, width=8, average=0.9),
}

data = restoration.data


class Denoiser(nn.Module):
    """Damaged images [N, 3, H, W] to whole ones, both in [-1, 1]; H and W are multiples of 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = UNet(3, 3, (width, width * 3 // 2, width * 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = image + self.network(image)
        return restored


def build(settings: UNetSettings, found: tuple[Photographs, Photographs]) -> Restoration:
    """The recipe on these photographs, to train with and held out."""
    return Restoration(
        NAME,
        settings,
        built(settings.seed, lambda: Denoiser(settings.width)),
        restoration.patch_discriminator(settings),
        Damage(),
        *found,
    )
