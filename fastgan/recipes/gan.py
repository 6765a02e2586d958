"""A generator and a discriminator that play against each other; `losses` says by which rules."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fastgan.recipes import losses
from fastgan.recipes import system as common
from fastgan.recipes.system import System, fixed


@dataclass(frozen=True)
class Settings(common.Settings):
    """Beside those of every recipe:

    Attributes:
        latent: how many normal numbers make an image.
        diversity: weight of what keeps two latents from making one image (`losses.mode_seeking`).
    """

    steps: int = 4000
    batch: int = 48
    lr: float = 4e-4
    label_smoothing: float = 0.1
    shift: float = 0.0625
    latent: int = 100
    diversity: float = 0.0


def normed(layer: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """A convolution, a batch norm of its channels, and the usual activation behind it."""
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.LeakyReLU(0.2)]


class Adversarial(System):
    """The recipe of a generator and a discriminator; how images and latents come is a subclass's.

    Args:
        generator: latents to images [N, C, H, W] in [-1, 1].
        discriminator: images to logits of any shape, high for real.
        data: a line that says which images it is trained on.
    """

    options: Settings

    def __init__(
        self,
        name: str,
        generator: nn.Module,
        discriminator: nn.Module,
        settings: Settings,
        data: str,
    ) -> None:
        super().__init__(name, settings, data, generator, discriminator=discriminator)
        self.discriminator = discriminator

    @abstractmethod
    def real(self, draw: torch.Generator) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """A batch of real images, and what both networks are told of them: labels, or nothing."""

    def latents(self, count: int, draw: torch.Generator) -> torch.Tensor:
        """What the generator makes images of, on the CPU."""
        return torch.randn(count, self.options.latent, generator=draw)

    def seen(self, shown: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        """What the discriminator sees of images: each is moved by its own few pixels."""
        return losses.shifted(shown, self.options.shift, draw)

    def examples(self, count: int, draw: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Inputs of the generator for `count` images."""
        return (self.latents(count, draw),)

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train the discriminator, then the generator, on one batch each."""
        s = self.options
        images, told = self.real(draw)
        real = self.seen(images, draw)
        real.requires_grad_(s.r1 > 0)
        latents = self.latents(s.batch, draw).to(self.device)
        half = s.batch // 2
        asked = tuple(torch.cat([t[:half], t[: s.batch - half]]) for t in told)  # twice the same
        with self.autocast():
            fake = self.generator(latents, *asked)

        with self.autocast():
            on_real = self.discriminator(real, *told).float()
            on_fake = self.discriminator(self.seen(fake.detach(), draw), *asked).float()
        d_loss = losses.discriminator_loss(on_real, on_fake, s.loss, s.label_smoothing)
        penalty = s.r1 / 2 * losses.r1(on_real, real) if s.r1 else 0.0
        self.descend(d_loss + penalty, "discriminator")

        self.discriminator.requires_grad_(False)
        with self.autocast():
            on_fake = self.discriminator(self.seen(fake, draw), *asked).float()
        g_loss = losses.generator_loss(on_fake, s.loss)
        alike = losses.mode_seeking(fake.float(), latents, half) if s.diversity else 0.0
        self.descend(g_loss + s.diversity * alike, "generator")
        self.discriminator.requires_grad_(True)
        self.update_average()
        return {"D": d_loss.item(), "G": g_loss.item()}

    def samples(self, count: int) -> torch.Tensor:
        """The averaged generator's images of the same `count` latents each time."""
        with torch.no_grad():
            images: torch.Tensor = self.finished()(*self.examples(count, fixed()))
        return images

    def finished(self) -> nn.Module:
        """The averaged generator, with batch statistics of its own weights, ready to export."""
        generator = super().finished().train()
        norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
        draw = fixed()
        with torch.no_grad():
            for _ in range(16 if norms else 0):
                generator(*self.examples(64, draw))
        return generator.eval()


class OfImages(Adversarial):
    """The recipe of a generator of whole images, of a class where there are any.

    Args:
        generator: latents [N, latent] to images [N, C, H, W] in [-1, 1]; with `labels`, latents
            and labels.
        discriminator: images to logits [N, 1], high for real; with `labels`, images and labels.
        images: the real images, [M, C, H, W] in [-1, 1].
        labels: the class of each, the digit that it is, int64 [M]; None where there are none.
    """

    def __init__(
        self,
        name: str,
        generator: nn.Module,
        discriminator: nn.Module,
        images: torch.Tensor,
        settings: Settings,
        labels: torch.Tensor | None = None,
    ) -> None:
        checksum = zlib.crc32(images.contiguous().numpy().data)
        found = f"{tuple(images.shape)}, checksum {checksum:08x}"
        super().__init__(name, generator, discriminator, settings, found)
        self.images, self.labels = images, labels
        self.classes = None if labels is None else int(labels.max()) + 1

    def real(self, draw: torch.Generator) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        chosen = torch.randint(len(self.images), (self.options.batch,), generator=draw)
        told = () if self.labels is None else (self.labels[chosen].to(self.device),)
        return self.images[chosen].to(self.device), told

    def examples(self, count: int, draw: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Latents, and the classes in turn."""
        latents = self.latents(count, draw)
        return (latents,) if self.classes is None else (latents, torch.arange(count) % self.classes)

    def export(self, path: Path) -> None:
        """Write the finished generator as ONNX."""
        from fastgan.exporting import export

        names = [str(digit) for digit in range(self.classes or 0)]
        export(
            self.finished(), path, latent=self.options.latent, labels=self.classes,
            class_names=names,
        )  # fmt: skip
