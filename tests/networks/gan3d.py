"""3D-GAN: Wu et al., "Learning a probabilistic latent space of object shapes via 3D
generative-adversarial modeling", 2016."""

from __future__ import annotations

from torch import nn


def gan3d(latent: int, width: int) -> nn.Module:
    """Latent [N, latent, 1, 1, 1] -> occupancies [N, 1, 16, 16, 16] in 0..1."""

    def normed(layer: nn.Module, channels: int) -> list[nn.Module]:
        return [layer, nn.BatchNorm3d(channels), nn.ReLU()]

    return nn.Sequential(
        *normed(nn.ConvTranspose3d(latent, width * 2, 4, 1, 0, bias=False), width * 2),
        *normed(nn.ConvTranspose3d(width * 2, width, 4, 2, 1, bias=False), width),
        nn.ConvTranspose3d(width, 1, 4, 2, 1, bias=False),
        nn.Sigmoid(),
    )
