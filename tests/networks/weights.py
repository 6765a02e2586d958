"""Random weights as if a network had been trained: signals neither die out nor saturate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrizations

Module = TypeVar("Module", bound=nn.Module)
_PRODUCTS = (nn.Linear, nn.modules.conv._ConvNd)


def randomise_batch_norms(module: Module, generator: torch.Generator) -> Module:
    """Give every batch norm statistics and parameters as if it had been trained."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                norm.running_mean.normal_(0.0, 0.2, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)
                if norm.affine:
                    norm.weight.normal_(1.0, 0.2, generator=generator)
                    norm.bias.normal_(0.0, 0.2, generator=generator)
    return module.eval()


def fan_in(layer: nn.Module) -> float:
    """How many inputs meet in one output of a product."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    assert isinstance(layer, nn.modules.conv._ConvNd)
    taps = math.prod(layer.kernel_size)
    if layer.transposed:  # only every stride-th tap meets an output
        taps /= math.prod(layer.stride)
    return max(1.0, layer.in_channels * taps / layer.groups)


def draw(layer: nn.Module, gain: float = 2.0) -> nn.Module:
    """He et al., 2015: a product that keeps the variance of what a ReLU leaves (for gain 2)."""
    with torch.no_grad():
        layer.weight.normal_(0.0, math.sqrt(gain / fan_in(layer)))
        if layer.bias is not None:
            layer.bias.normal_(0.0, 0.1)
    return layer


def spectral(layer: nn.Module) -> nn.Module:
    """A drawn layer under spectral normalisation, which stays in the exported graph."""
    # The older of PyTorch's two: its TorchScript exporter does not know the newer one's vdot.
    normed = nn.utils.spectral_norm(draw(layer), n_power_iterations=10)
    for hook in normed._forward_pre_hooks.values():  # the power iterations of training
        hook(normed, None)
    return normed


def weight_normed(layer: nn.Module) -> nn.Module:
    """A drawn layer under weight normalisation, which stays in the exported graph."""
    return parametrizations.weight_norm(draw(layer))


def build(make: Callable[[], Module], seed: int) -> Module:
    """The module with its products and norms drawn from a seed, in eval mode, at no gradient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
        for layer in module.modules():
            if isinstance(layer, _PRODUCTS):
                if isinstance(layer._parameters.get("weight"), nn.Parameter):  # not normalised
                    draw(layer)
            elif isinstance(layer, nn.InstanceNorm2d) and layer.affine:
                nn.init.normal_(layer.weight, 1.0, 0.2)
                nn.init.normal_(layer.bias, 0.0, 0.2)
            elif isinstance(layer, nn.PReLU):
                nn.init.uniform_(layer.weight, 0.05, 0.4)
        randomise_batch_norms(module, torch.default_generator)
    return module.requires_grad_(False)
