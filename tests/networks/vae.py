"""VAE decoder: Kingma, Welling, "Auto-encoding variational Bayes", 2014; convolutional as in
Burgess et al., "Understanding disentangling in beta-VAE", 2018, appendix A."""

from __future__ import annotations

from torch import nn


def vae_decoder(latent: int, width: int) -> nn.Module:
    """Latent [N, latent] -> sigmoid images [N, 1, 32, 32]."""
    return nn.Sequential(
        nn.Linear(latent, width * 8),
        nn.ReLU(),
        nn.Linear(width * 8, width * 16),
        nn.ReLU(),
        nn.Unflatten(1, (width, 4, 4)),
        nn.ConvTranspose2d(width, width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
        nn.Sigmoid(),
    )
