"""A conditional GAN: the label says which digit to draw.

The generator takes an embedding of the label beside the latent. The discriminator adds to its
logit how well its features fit the label (a projection). Told the label, the generator soon draws
each digit in one way only; mode seeking (`diversity`) keeps two latents from making one image.

Conditioning: Mirza and Osindero, "Conditional Generative Adversarial Nets" (2014); projection:
Miyato and Koyama, "cGANs with Projection Discriminator" (2018).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from fastgan.errors import ArgumentError
from fastgan.recipes import images as pictures
from fastgan.recipes import losses
from fastgan.recipes.gan import OfImages, Settings, normed
from fastgan.recipes.system import built

NAME = "cgan"
_SHIP = Settings(steps=3000, batch=48, latent=32, diversity=0.3)
SETTINGS = {
    "ship": _SHIP,
    "full": replace(_SHIP, steps=40_000, batch=128, lr=2e-4, average=0.999),
    "quick": replace(_SHIP, steps=40, batch=16, average=0.9),
}


class Generator(nn.Module):
    """Latents [N, latent] and labels [N] to images [N, 1, 32, 32] in [-1, 1]."""

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.label = nn.Embedding(classes, latent)
        self.dense = nn.Sequential(
            nn.Linear(2 * latent, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 64 * 4 * 4, bias=False),
            nn.BatchNorm1d(64 * 4 * 4),
            nn.LeakyReLU(0.2),
        )
        self.convolutions = nn.Sequential(
            *normed(nn.ConvTranspose2d(64, 64, 4, 2, 1, bias=False)),  # [N, 64, 8, 8]
            *normed(nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False)),  # [N, 32, 16, 16]
            nn.ConvTranspose2d(32, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        rows = self.dense(torch.cat([latent, self.label(label)], 1))
        images: torch.Tensor = self.convolutions(rows.view(-1, 64, 4, 4))
        return images


class Discriminator(nn.Module):
    """Images [N, 1, 32, 32] and labels [N] to logits [N, 1], high for real ones of this label."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1),  # [N, 16, 16, 16]
            nn.LeakyReLU(0.2),
            *normed(nn.Conv2d(16, 32, 4, 2, 1, bias=False)),  # [N, 32, 8, 8]
            *normed(nn.Conv2d(32, 64, 4, 2, 1, bias=False)),  # [N, 64, 4, 4]
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.LeakyReLU(0.2),
        )
        self.real = nn.Linear(128, 1)
        self.label = nn.Embedding(classes, 128)

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        features = self.features(image)
        fit = (features * self.label(label)).sum(1, keepdim=True)
        logits: torch.Tensor = self.real(features) + fit
        return logits


def data(settings: Settings, folder: Path | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits and their classes.

    Raises:
        ArgumentError: a folder is given; its images would have no classes.
    """
    if folder is not None:
        raise ArgumentError("--data", str(folder), "nothing: this recipe needs classes", "dcgan")
    return pictures.digits("train", settings.size)


def build(settings: Settings, found: tuple[torch.Tensor, torch.Tensor]) -> OfImages:
    """The recipe for digits of 32x32 and their classes.

    Raises:
        ArgumentError: another size.
    """
    if settings.size != 32:
        raise ArgumentError("size", str(settings.size), "32")
    images, labels = found
    classes = int(labels.max()) + 1

    def networks() -> tuple[nn.Module, nn.Module]:
        discriminator = losses.judge(Discriminator(classes), settings)
        return Generator(settings.latent, classes), discriminator

    return OfImages(NAME, *built(settings.seed, networks), images, settings, labels)
