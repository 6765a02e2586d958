"""Small sequential generators of the kinds that tutorials train."""

from __future__ import annotations

import torch
from torch import nn

from tests.networks.weights import randomise_batch_norms


def keras_style(seed: int) -> nn.Module:
    """The first seed system: Dense 256 -> 8x8x4 -> transposed convolutions 128, 64, 3."""
    module = nn.Sequential(
        nn.Linear(100, 256),
        nn.LeakyReLU(0.2),
        nn.Unflatten(1, (4, 8, 8)),
        nn.ConvTranspose2d(4, 128, 4, 2, 1),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(128, 64, 4, 2, 1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(64, 3, 4, 2, 1),
        nn.Tanh(),
    )
    return _drawn(module, seed, 0.1)


def wgan_style(seed: int) -> nn.Module:
    """Batch norm behind the reshape, output padding, kernel 5, a bias, and a sigmoid."""
    module = nn.Sequential(
        nn.Linear(32, 24 * 4 * 4),
        nn.Unflatten(1, (24, 4, 4)),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.ConvTranspose2d(24, 12, 5, 2, 2, output_padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 8, 3, 2, 1, output_padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(8, 1, 3, 1, 1),
        nn.Sigmoid(),
    )
    return _drawn(module, seed, 0.2)


def _drawn(module: nn.Module, seed: int, deviation: float) -> nn.Module:
    """The module with weights of the seed's."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, deviation, generator=generator)
    return randomise_batch_norms(module, generator)
