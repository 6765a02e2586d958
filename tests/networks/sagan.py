"""SAGAN: Zhang et al., "Self-attention generative adversarial networks", 2019."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.networks.weights import spectral


class SelfAttention(nn.Module):
    """x + gamma * attention(x): every pixel looks at every other (equations 1 to 3).

    With `pool` keys and values are 2x2 max-pooled, as BigGAN has it.
    """

    def __init__(self, channels: int, inner: int, pool: bool = False) -> None:
        super().__init__()
        self.query = spectral(nn.Conv2d(channels, inner, 1, bias=False))
        self.key = spectral(nn.Conv2d(channels, inner, 1, bias=False))
        self.value = spectral(nn.Conv2d(channels, channels // 2, 1, bias=False))
        self.out = spectral(nn.Conv2d(channels // 2, channels, 1, bias=False))
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.gamma = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2)  # [N, inner, H * W]
        key = self.pool(self.key(x)).flatten(2)
        value = self.pool(self.value(x)).flatten(2)  # [N, channels / 2, pixels]
        attention = torch.softmax(query.transpose(1, 2) @ key, dim=-1)  # [N, H * W, pixels]
        mixed = (value @ attention.transpose(1, 2)).view(x.shape[0], -1, *x.shape[2:])
        return x + self.gamma * self.out(mixed)


def sagan(latent: int, width: int) -> nn.Module:
    """Latent [N, latent, 1, 1] -> tanh images [N, 3, 32, 32]; attention at 16x16."""

    def up(before: int, after: int, stride: int = 2) -> list[nn.Module]:
        layer = nn.ConvTranspose2d(before, after, 4, stride, 1 if stride == 2 else 0)
        return [spectral(layer), nn.BatchNorm2d(after), nn.ReLU()]

    return nn.Sequential(
        *up(latent, width * 4, stride=1),
        *up(width * 4, width * 2),
        *up(width * 2, width),
        SelfAttention(width, max(1, width // 8)),
        nn.ConvTranspose2d(width, 3, 4, 2, 1),
        nn.Tanh(),
    )
