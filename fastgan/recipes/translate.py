"""One picture of a scene into another: grey to colour, or a drawing of its edges to a photograph.

A U-Net, and a discriminator that sees patches of both: is this the photograph of that drawing?

Architecture and losses: Isola et al., "Image-to-Image Translation with Conditional Adversarial
Networks" (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from fastgan.errors import ArgumentError
from fastgan.exporting import export
from fastgan.recipes import restoration
from fastgan.recipes.networks import UNet
from fastgan.recipes.photographs import Photographs, collection
from fastgan.recipes.restoration import PairSettings, Restoration

NAME = "translate"


@dataclass(frozen=True)
class TranslateSettings(PairSettings):
    """Beside the others: `width`, the channels at half the size, and

    Attributes:
        source: "grey" or "edges".
        collection: what without a folder is trained on: "histology", "photographs" or a texture.
            Which colour a grey photograph had, a handful does not teach; of stained tissue one
            image tells.
    """

    source: str = "grey"
    collection: str = "histology"
    width: int = 32


SETTINGS = {
    "ship": TranslateSettings(
        steps=400,
        average=0.98,
        lr=1e-3,
        lr_discriminator=0.3,
        adversarial=0.01,
        warm=300,
        precision="bf16",
    ),
    "full": TranslateSettings(
        steps=200_000, lr=2e-4, adversarial=0.01, warm=20_000, width=64, size=128
    ),
    "quick": TranslateSettings(
        steps=30, batch=4, lr=1e-3, adversarial=0.01, warm=10, width=8, average=0.9
    ),
}


def data(settings: TranslateSettings, folder: Path | None) -> tuple[Photographs, Photographs]:
    """What to train with, and what is held out."""
    if folder is not None:
        return restoration.data(settings, folder)
    name, size = settings.collection, settings.size
    return collection(name, "train", size), collection(name, "test", size)


def grey(images: torch.Tensor, draw: torch.Generator | None = None) -> torch.Tensor:
    """The luma of [N, 3, H, W] (ITU-R BT.601): [N, 1, H, W]."""
    return (images * images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


def edges(images: torch.Tensor, draw: torch.Generator | None = None) -> torch.Tensor:
    """A drawing of [N, 3, H, W]: dark where the luma changes, on white; [N, 1, H, W] in [-1, 1]."""
    luma = functional.pad(grey(images), [1] * 4, mode="replicate")
    ramp = luma.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8  # Sobel
    across = functional.conv2d(luma, ramp[None, None])
    down = functional.conv2d(luma, ramp.T[None, None])
    return 1 - 2 * torch.tanh(8 * torch.hypot(across, down))


SOURCES = {"grey": grey, "edges": edges}


class Translator(nn.Module):
    """Pictures [N, 1, H, W] to photographs [N, 3, H, W], both in [-1, 1]; multiples of 16.

    Args:
        keeps_luma: what is learned is added to the picture.
    """

    def __init__(self, width: int, keeps_luma: bool) -> None:
        super().__init__()
        wide = width * 3 // 2
        self.network = UNet(1, 3, (width, wide, wide, wide))
        self.keeps_luma = keeps_luma

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.network(picture)
        return picture + made if self.keeps_luma else made


class Translate(Restoration):
    """`Restoration` of the photograph that a picture was made of."""

    def judged(self, given: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return super().judged(given, torch.cat([given, image], 1))

    def export(self, path: Path) -> None:
        """Write the finished generator as ONNX: a grey picture in, a photograph out."""
        export(self.finished(), path, image=(1, "height", "width"), range=(-1, 1))


def build(settings: TranslateSettings, found: tuple[Photographs, Photographs]) -> Translate:
    """The recipe on these photographs, to train with and held out.

    Raises:
        ArgumentError: there is no such source.
    """
    if settings.source not in SOURCES:
        raise ArgumentError("source", repr(settings.source), " or ".join(SOURCES))
    train, test = (in_colour(photographs) for photographs in found)

    def make() -> Translator:
        return Translator(settings.width, settings.source == "grey")

    return Translate(NAME, settings, make, SOURCES[settings.source], (train, test), seen=1 + 3)


def in_colour(found: Photographs) -> Photographs:
    """Those that are not grey: they would teach that the world is."""
    pictures = tuple(p for p in found.pictures if not torch.equal(p[0], p[2]))
    return Photographs(pictures or found.pictures, f"{found.name}, in colour")
