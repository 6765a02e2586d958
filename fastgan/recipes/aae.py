"""An adversarial autoencoder: a discriminator makes the latents of images look like N(0, 1).

Makhzani et al., "Adversarial Autoencoders" (2015). In place of a VAE's divergence a small network
tells latents of images from normal numbers, and the encoder learns to deceive it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from fastgan.recipes import losses
from fastgan.recipes.autoencoder import Autoencoder, AutoencoderSettings, Pair, check, data
from fastgan.recipes.system import built

__all__ = ["NAME", "SETTINGS", "Adversarial", "build", "data"]

NAME = "aae"


@dataclass(frozen=True)
class AdversarialSettings(AutoencoderSettings):
    """Beside the others: `adversarial`, the weight of the discriminator's view of the latents."""

    latent: int = 10
    label_smoothing: float = 0.1
    adversarial: float = 0.02


SETTINGS = {
    "ship": AdversarialSettings(steps=3000),
    "full": AdversarialSettings(steps=50_000, batch=128, width=128, average=0.999),
    "quick": AdversarialSettings(steps=60, batch=16, width=16, average=0.9),
}


class Discriminator(nn.Sequential):
    """Latents [N, latent] to logits [N, 1], high for normal numbers."""

    def __init__(self, latent: int, width: int = 128) -> None:
        super().__init__(
            nn.Linear(latent, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )


class Adversarial(Autoencoder):
    """The recipe of an adversarial autoencoder."""

    options: AdversarialSettings

    def __init__(
        self,
        settings: AdversarialSettings,
        pair: Pair,
        discriminator: nn.Module,
        found: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        super().__init__(NAME, settings, pair, found, discriminator=discriminator)
        self.discriminator = discriminator

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train the discriminator of latents, then the encoder and the decoder."""
        s = self.options
        images = self.batch(draw)
        wanted, noise = torch.randn(2, len(images), s.latent, generator=draw).to(self.device)
        with self.autocast():
            mean, log_variance = self.pair.encode(images)
        latents = mean + noise * (log_variance / 2).exp()

        on_real = self.discriminator(wanted)
        on_fake = self.discriminator(latents.detach())
        d_loss = losses.discriminator_loss(on_real, on_fake, s.loss, s.label_smoothing)
        self.descend(d_loss, "discriminator")

        self.discriminator.requires_grad_(False)
        with self.autocast():
            decoded = self.pair.decoder(latents).float()
        distance = functional.mse_loss(decoded, images)
        g_loss = losses.generator_loss(self.discriminator(latents), s.loss)
        self.descend(distance + s.adversarial * g_loss, "generator")
        self.discriminator.requires_grad_(True)
        self.update_average()
        return {"MSE": distance.item(), "D": d_loss.item(), "G": g_loss.item()}


def build(settings: AdversarialSettings, found: tuple[torch.Tensor, torch.Tensor]) -> Adversarial:
    """The recipe for images to train with and held-out ones, [M, C, 32, 32] in [-1, 1].

    Raises:
        ArgumentError: another size than 32.
    """
    check(settings)
    s, channels = settings, found[0].shape[1]

    def networks() -> tuple[Pair, nn.Module]:
        return Pair(s.latent, channels, s.width), Discriminator(s.latent)

    return Adversarial(s, *built(s.seed, networks), found)
