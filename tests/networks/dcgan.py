"""DCGAN: Radford, Metz, Chintala, "Unsupervised representation learning with DCGANs", 2016."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from tests.networks.weights import randomise_batch_norms


def growing(widths: Sequence[int]) -> Iterator[nn.Module]:
    """Layers from latents of the first width to 4x4, and then twice as large for each further."""
    for index, (before, after) in enumerate(itertools.pairwise(widths)):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        yield nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False)
        yield nn.BatchNorm2d(after)
        yield nn.ReLU()


def dcgan(latent: int, width: int, channels: int, seed: int) -> nn.Module:
    """Radford et al., 2016: latent [N, latent, 1, 1] -> tanh images [N, channels, 64, 64]."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [latent, width * 8, width * 4, width * 2, width]
    last = nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False)
    module = nn.Sequential(*growing(sizes), last, nn.Tanh())
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.ConvTranspose2d):
                fan_in = layer.in_channels * layer.kernel_size[0] ** 2 / layer.stride[0] ** 2
                layer.weight.normal_(0.0, fan_in**-0.5, generator=generator)
    return randomise_batch_norms(module, generator)
