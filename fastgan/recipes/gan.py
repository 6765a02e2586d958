"""One step of adversarial training, and the average of the generator that is worth keeping.

Losses: Goodfellow et al., "Generative Adversarial Nets" (2014), section 3. One-sided label
smoothing: Salimans et al., "Improved Techniques for Training GANs" (2016). R1: Mescheder et al.,
"Which Training Methods for GANs do actually Converge?" (2018). Translating real and generated
images alike before the discriminator sees them: Zhao et al., "Differentiable Augmentation for
Data-Efficient GAN Training" (2020).
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from fastgan.recipes.trainer import Stateful


@dataclass(frozen=True, slots=True)
class Settings:
    """How a generator is trained.

    Attributes:
        steps: how long; not part of what a checkpoint must agree in.
        batch: images per step, real ones and generated ones each.
        lr: Adam's step size, of the discriminator and of the generator.
        size: height and width of the images.
        latent: how many normal numbers make an image.
        hidden: dense layers in front of those that the recipe describes.
        loss: what the generator minimises: "non-saturating" -log D(G(z)), or "minimax"
            log(1 - D(G(z))), which the discriminator maximises.
        label_smoothing: real images are to be judged 1 - this.
        r1: weight of the discriminator's squared gradient at real images; 0 leaves it out.
        spectral_norm: divide each of the discriminator's weights by its largest singular value.
        shift: images are translated by up to this share of their size.
        average: how much of the averaged generator stays, per step.
        precision: "bf16" computes the layers in bfloat16, faster where the CPU has it.
    """

    steps: int = 4000
    batch: int = 48
    lr: float = 4e-4
    seed: int = 0
    size: int = 32
    latent: int = 100
    hidden: int = 2
    loss: Literal["non-saturating", "minimax"] = "non-saturating"
    label_smoothing: float = 0.1
    r1: float = 0.0
    spectral_norm: bool = False
    shift: float = 0.0625
    average: float = 0.998
    precision: Literal["float32", "bf16"] = "float32"


class Adversarial:
    """The recipe of a generator and a discriminator, as `trainer.Recipe` asks for it.

    Args:
        generator: latents [N, latent] to images [N, C, H, W] in [-1, 1].
        discriminator: images to logits [N, 1], high for real.
        images: the real images, [M, C, H, W] in [-1, 1].
    """

    def __init__(
        self,
        name: str,
        generator: nn.Module,
        discriminator: nn.Module,
        images: torch.Tensor,
        settings: Settings,
    ) -> None:
        self.name = name
        self.generator, self.discriminator = generator, discriminator
        self.average = copy.deepcopy(generator).requires_grad_(False)
        self.images = images
        self._settings = settings
        checksum = zlib.crc32(images.contiguous().numpy().data)
        self._images = f"{tuple(images.shape)}, checksum {checksum:08x}"
        betas = (0.5, 0.99)
        self._g_optimizer = torch.optim.Adam(generator.parameters(), settings.lr, betas)
        self._d_optimizer = torch.optim.Adam(discriminator.parameters(), settings.lr, betas)

    @property
    def settings(self) -> Mapping[str, object]:
        """What a checkpoint must agree in: everything but the number of steps."""
        shared = {name: value for name, value in asdict(self._settings).items() if name != "steps"}
        return {**shared, "images": self._images}

    @property
    def state(self) -> Mapping[str, Stateful]:
        """Everything that `step` changes."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self._g_optimizer,
            "discriminator_optimizer": self._d_optimizer,
        }

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train the discriminator, then the generator, on one batch each."""
        s = self._settings
        chosen = torch.randint(len(self.images), (s.batch,), generator=draw)
        real = self._shifted(self.images[chosen], draw).requires_grad_(s.r1 > 0)
        latents = torch.randn(s.batch, s.latent, generator=draw)
        with self._autocast():
            fake = self.generator(latents)

        with self._autocast():
            on_real = self.discriminator(real).float()
            on_fake = self.discriminator(self._shifted(fake.detach(), draw)).float()
        target = torch.full_like(on_real, 1 - s.label_smoothing)
        d_loss = functional.binary_cross_entropy_with_logits(on_real, target)
        d_loss = d_loss + functional.softplus(on_fake).mean()
        penalty = s.r1 / 2 * _squared_gradient(on_real, real) if s.r1 else 0.0
        self._d_optimizer.zero_grad()
        torch.autograd.backward(d_loss + penalty)
        self._d_optimizer.step()

        self.discriminator.requires_grad_(False)
        with self._autocast():
            on_fake = self.discriminator(self._shifted(fake, draw)).float()
        if s.loss == "minimax":
            g_loss = -functional.softplus(on_fake).mean()
        else:
            g_loss = functional.softplus(-on_fake).mean()
        self._g_optimizer.zero_grad()
        torch.autograd.backward(g_loss)
        self._g_optimizer.step()
        self.discriminator.requires_grad_(True)
        self._update_average()
        return {"D": d_loss.item(), "G": g_loss.item()}

    def samples(self, count: int) -> torch.Tensor:
        """The averaged generator's images of the same `count` latents each time."""
        latents = torch.randn(count, self._settings.latent, generator=_fixed())
        with torch.no_grad():
            images: torch.Tensor = self.finished()(latents)
        return images

    def finished(self) -> nn.Module:
        """The averaged generator, with batch statistics of its own weights, ready to export."""
        generator = copy.deepcopy(self.average)
        norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
        draw = _fixed()
        with torch.no_grad():
            for _ in range(16 if norms else 0):
                generator(torch.randn(64, self._settings.latent, generator=draw))
        return generator.eval()

    def export(self, path: Path) -> None:
        """Write the finished generator as ONNX, with what it was trained on in its metadata."""
        from fastgan.exporting import export

        export(self.finished(), path, latent=self._settings.latent)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self._settings.precision == "bf16")

    def _shifted(self, images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        """Each image moved by its own few pixels; what comes in at the edge is its edge."""
        reach = int(self._settings.shift * images.shape[-1])
        if not reach:
            return images
        size = images.shape[-1]
        padded = functional.pad(images, [reach] * 4, mode="replicate")
        offsets = torch.randint(2 * reach + 1, (2, len(images), 1, 1), generator=draw)
        rows = offsets[0] + torch.arange(size).view(1, size, 1)  # [N, size, 1]
        columns = offsets[1] + torch.arange(size).view(1, 1, size)  # [N, 1, size]
        index = torch.arange(len(images)).view(-1, 1, 1)
        return padded.permute(0, 2, 3, 1)[index, rows, columns].permute(0, 3, 1, 2)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = self._settings.average
        for mean, weight in zip(
            self.average.parameters(), self.generator.parameters(), strict=True
        ):
            mean.lerp_(weight, 1 - keep)


def _fixed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _squared_gradient(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
