"""A variational autoencoder: an image becomes a normal distribution of latents, and back.

What is maximised is the evidence lower bound (ELBO): how likely the decoder makes the image, less
the divergence of the latents' distribution from N(0, 1). The pixels' noise level, which balances
the two, is the best one for each batch, so nothing has to be tuned.

Kingma and Welling, "Auto-Encoding Variational Bayes" (2013); the noise level: Rybkin et al.,
"Simple and Effective VAE Training with Calibrated Decoders" (2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fastgan.recipes.autoencoder import Autoencoder, AutoencoderSettings, Pair, check, data
from fastgan.recipes.system import built

__all__ = ["NAME", "SETTINGS", "Variational", "build", "data"]

NAME = "vae"


@dataclass(frozen=True)
class VariationalSettings(AutoencoderSettings):
    """Beside the others: `beta`, the weight of the divergence (Higgins et al., 2017)."""

    beta: float = 1.0


SETTINGS = {
    "ship": VariationalSettings(steps=3000, latent=10, beta=3.0),
    "full": VariationalSettings(steps=50_000, beta=2.0, batch=128, width=128, average=0.999),
    "quick": VariationalSettings(steps=60, batch=16, width=16, average=0.9),
}


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Of N(mean, variance) [N, latent] from N(0, 1), in nats, [N] (Kingma and Welling, app. B)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)


def likelihood(images: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Mean log density of the images under pixels with noise, in nats per image.

    The noise level is one for all of them: the likeliest, the root of the mean squared error.
    """
    pixels = images[0].numel()
    mse = (images - decoded).square().mean()
    return -0.5 * pixels * (mse.add(1e-8).log() + math.log(2 * math.pi) + 1)


class Variational(Autoencoder):
    """The recipe of a VAE."""

    options: VariationalSettings

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """One step up the ELBO."""
        images = self.batch(draw)
        noise = torch.randn(len(images), self.options.latent, generator=draw).to(self.device)
        with self.autocast():
            mean, log_variance = self.pair.encode(images)
            decoded = self.pair.decoder(mean + noise * (log_variance / 2).exp()).float()
        fit = likelihood(images, decoded)
        distance = divergence(mean, log_variance).mean()
        pixels = images[0].numel()
        self.descend((self.options.beta * distance - fit) / pixels, "generator")
        self.update_average()
        return {"ELBO": (fit - distance).item() / pixels, "KL": distance.item()}


def build(settings: VariationalSettings, found: tuple[torch.Tensor, torch.Tensor]) -> Variational:
    """The recipe for images to train with and held-out ones, [M, C, 32, 32] in [-1, 1].

    Raises:
        ArgumentError: another size than 32.
    """
    check(settings)
    s, channels = settings, found[0].shape[1]
    pair = built(s.seed, lambda: Pair(s.latent, channels, s.width))
    return Variational(NAME, s, pair, found)
