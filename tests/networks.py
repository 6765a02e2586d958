"""Generators written out plainly, as references and as something to export."""

from __future__ import annotations

import itertools

import torch
from torch import nn


def randomise_batch_norms(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Give every batch norm statistics and parameters as if it had been trained."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                norm.running_mean.normal_(0.0, 0.2, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)
                norm.weight.normal_(1.0, 0.2, generator=generator)
                norm.bias.normal_(0.0, 0.2, generator=generator)
    return module.eval()


def dcgan(latent: int, width: int, channels: int, seed: int) -> nn.Module:
    """Radford et al., 2016: latent [N, latent, 1, 1] -> tanh images [N, channels, 64, 64]."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [latent, width * 8, width * 4, width * 2, width]
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        layers += [
            nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
    module = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.ConvTranspose2d):
                fan_in = layer.in_channels * layer.kernel_size[0] ** 2 / layer.stride[0] ** 2
                layer.weight.normal_(0.0, fan_in**-0.5, generator=generator)
    return randomise_batch_norms(module, generator)


def keras_style(seed: int) -> nn.Module:
    """The first seed system: Dense 256 -> 8x8x4 -> transposed convolutions 128, 64, 3."""
    generator = torch.Generator().manual_seed(seed)
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
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.1, generator=generator)
    return randomise_batch_norms(module, generator)


def wgan_style(seed: int) -> nn.Module:
    """Batch norm behind the reshape, output padding, kernel 5, a bias, and a sigmoid."""
    generator = torch.Generator().manual_seed(seed)
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
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return randomise_batch_norms(module, generator)
