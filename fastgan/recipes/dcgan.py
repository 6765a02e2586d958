"""The first seed system: a small DCGAN for images of 32x32 or 64x64.

The generator is Dense 256, reshaped to 4 channels of 8x8, and transposed convolutions to 128
channels, 64 channels and the image; the discriminator mirrors it. At 64x64 each of the three
convolutions doubles the size, with a kernel of 4. Handwritten digits hold no detail for that, so
at 32x32 the last one keeps the size, with a kernel of 3, and every layer stays.

Convolutions this few see only their surroundings, so what the whole image shows is decided in
front of them, and one dense layer decides little: its digits are blends that nobody can read.
`hidden` more of them in front (two by default; 0 is the plain seed) cost next to nothing
beside the convolutions, and the same training then gives digits.

Architecture: Radford et al., "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks" (2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fastgan.errors import ArgumentError
from fastgan.recipes import images as pictures
from fastgan.recipes import losses, photographs
from fastgan.recipes.gan import OfImages, Settings, normed
from fastgan.recipes.system import built

NAME = "dcgan"


@dataclass(frozen=True)
class DcganSettings(Settings):
    """Beside the others:

    Attributes:
        hidden: dense layers in front of those that the recipe describes.
        subject: without a folder of images, "digits" or "faces".
    """

    hidden: int = 2
    subject: str = "digits"


SETTINGS = {
    "ship": DcganSettings(),
    "full": DcganSettings(steps=40_000, batch=128, lr=2e-4, average=0.999),
    "quick": DcganSettings(steps=40, batch=16),  # a minute, to see that everything works
}


class Generator(nn.Module):
    """Latents [N, latent] to images [N, channels, size, size] in [-1, 1]."""

    def __init__(self, latent: int, channels: int, size: int, hidden: int = 0) -> None:
        super().__init__()
        dense: list[nn.Module] = []
        for width in (latent, *[256] * hidden):
            dense += [nn.Linear(width, 256), nn.LeakyReLU(0.2)]
        self.dense = nn.Sequential(*dense)
        last = (4, 2, 1) if size == 64 else (3, 1, 1)  # kernel, stride, padding
        self.convolutions = nn.Sequential(
            *normed(nn.ConvTranspose2d(4, 128, 4, 2, 1, bias=False)),  # [N, 128, 16, 16]
            *normed(nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False)),  # [N, 64, 32, 32]
            nn.ConvTranspose2d(64, channels, *last),
            nn.Tanh(),
        )
        self.apply(_initialise)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.convolutions(self.dense(latent).view(-1, 4, 8, 8))
        return images


class Discriminator(nn.Sequential):
    """Images [N, channels, size, size] to logits [N, 1], high for real ones."""

    def __init__(self, channels: int, size: int) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(channels, 64, 4, 2, 1),
            nn.LeakyReLU(0.2),
            *normed(nn.Conv2d(64, 128, 4, 2, 1, bias=False)),
            *normed(nn.Conv2d(128, 256, 4, 2, 1, bias=False)),
            nn.Flatten(),
            nn.Linear(256 * (size // 8) ** 2, 1),
        ]
        for layer in layers:
            _initialise(layer)
        super().__init__(*layers)


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, std=0.02)  # as in the paper, section 4
    elif isinstance(layer, nn.Linear):  # keeps the variance through LeakyReLU (He et al., 2015)
        nn.init.kaiming_normal_(layer.weight, a=0.2)
        nn.init.zeros_(layer.bias)


def data(settings: DcganSettings, folder: Path | None, channels: int = 3) -> torch.Tensor:
    """Digits, faces and their mirror images, or the images in a folder.

    Raises:
        ArgumentError: the subject is neither digits nor faces.
    """
    if folder is not None:
        return pictures.folder(folder, settings.size, channels)
    return photographs.subject(settings.subject, "train", settings.size)


def build(settings: DcganSettings, images: torch.Tensor) -> OfImages:
    """The recipe for `images` [M, C, size, size] in [-1, 1].

    Raises:
        ArgumentError: the size is neither 32 nor 64, or the images are of another size.
    """
    if settings.size not in (32, 64):
        raise ArgumentError("size", str(settings.size), "32 or 64")
    if tuple(images.shape[2:]) != (settings.size, settings.size):
        raise ArgumentError("images", str(tuple(images.shape[2:])), f"{settings.size} squared")
    channels = images.shape[1]
    size, hidden = settings.size, settings.hidden

    def networks() -> tuple[nn.Module, nn.Module]:
        generator = Generator(settings.latent, channels, size, hidden)
        return generator, losses.judge(Discriminator(channels, size), settings)

    return OfImages(NAME, *built(settings.seed, networks), images, settings)
