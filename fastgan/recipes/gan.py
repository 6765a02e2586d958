"""A generator and a discriminator that play against each other; `losses` says by which rules."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fastgan.recipes import losses
from fastgan.recipes import settings as common
from fastgan.recipes.system import System, fixed


@dataclass(frozen=True)
class Settings(common.Settings):
    """Beside those of every recipe:

    Attributes:
        latent: how many normal numbers make an image.
        hidden: dense layers in front of those that the recipe describes.
    """

    steps: int = 4000
    batch: int = 48
    lr: float = 4e-4
    label_smoothing: float = 0.1
    shift: float = 0.0625
    latent: int = 100
    hidden: int = 2


class Adversarial(System):
    """The recipe of a generator and a discriminator.

    Args:
        generator: latents [N, latent] to images [N, C, H, W] in [-1, 1].
        discriminator: images to logits [N, 1], high for real.
        images: the real images, [M, C, H, W] in [-1, 1].
    """

    options: Settings

    def __init__(
        self,
        name: str,
        generator: nn.Module,
        discriminator: nn.Module,
        images: torch.Tensor,
        settings: Settings,
    ) -> None:
        checksum = zlib.crc32(images.contiguous().numpy().data)
        found = f"{tuple(images.shape)}, checksum {checksum:08x}"
        super().__init__(name, settings, found, generator, discriminator=discriminator)
        self.discriminator, self.images = discriminator, images

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train the discriminator, then the generator, on one batch each."""
        s = self.options
        chosen = torch.randint(len(self.images), (s.batch,), generator=draw)
        real = losses.shifted(self.images[chosen].to(self.device), s.shift, draw)
        real.requires_grad_(s.r1 > 0)
        latents = torch.randn(s.batch, s.latent, generator=draw).to(self.device)
        with self.autocast():
            fake = self.generator(latents)

        with self.autocast():
            on_real = self.discriminator(real).float()
            on_fake = self.discriminator(losses.shifted(fake.detach(), s.shift, draw)).float()
        d_loss = losses.discriminator_loss(on_real, on_fake, s.loss, s.label_smoothing)
        penalty = s.r1 / 2 * losses.r1(on_real, real) if s.r1 else 0.0
        self.descend(d_loss + penalty, "discriminator")

        self.discriminator.requires_grad_(False)
        with self.autocast():
            on_fake = self.discriminator(losses.shifted(fake, s.shift, draw)).float()
        g_loss = losses.generator_loss(on_fake, s.loss)
        self.descend(g_loss, "generator")
        self.discriminator.requires_grad_(True)
        self.update_average()
        return {"D": d_loss.item(), "G": g_loss.item()}

    def samples(self, count: int) -> torch.Tensor:
        """The averaged generator's images of the same `count` latents each time."""
        latents = torch.randn(count, self.options.latent, generator=fixed())
        with torch.no_grad():
            images: torch.Tensor = self.finished()(latents)
        return images

    def finished(self) -> nn.Module:
        """The averaged generator, with batch statistics of its own weights, ready to export."""
        generator = super().finished().train()
        norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
        draw = fixed()
        with torch.no_grad():
            for _ in range(16 if norms else 0):
                generator(torch.randn(64, self.options.latent, generator=draw))
        return generator.eval()

    def export(self, path: Path) -> None:
        """Write the finished generator as ONNX."""
        from fastgan.exporting import export

        export(self.finished(), path, latent=self.options.latent)
