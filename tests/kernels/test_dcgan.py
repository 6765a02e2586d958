"""The whole DCGAN-64 generator as a chain of launches, against eager PyTorch in float32."""

import itertools

import pytest
import torch
from torch import nn

from fastgan.kernels import conv_transpose, linear
from tests.drawing import new_generator
from tests.tolerances import MAX_ABS


def generator_network(generator: torch.Generator, nz: int = 100, ngf: int = 64) -> nn.Sequential:
    """The generator of the DCGAN paper (Radford et al., 2015) with random batch norm statistics."""
    widths = [nz, 8 * ngf, 4 * ngf, 2 * ngf, ngf, 3]
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        layers.append(nn.ConvTranspose2d(c_in, c_out, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(c_out), nn.ReLU()] if i < 4 else [nn.Tanh()]
    network = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.ConvTranspose2d):
                taps = 4 if layer.stride == (2, 2) else 1
                std = (layer.in_channels * taps) ** -0.5
                layer.weight.normal_(0, std, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0, 0.2, generator=generator)
                layer.running_mean.normal_(0, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return network


def folded(network: nn.Sequential) -> list[tuple[nn.ConvTranspose2d, torch.Tensor, torch.Tensor]]:
    """Each convolution with its weight and bias after its batch norm, computed in float64."""
    result = []
    for layer, after in itertools.pairwise(network):
        if not isinstance(layer, nn.ConvTranspose2d):
            continue
        weight = layer.weight.detach().double()
        bias = weight.new_zeros(layer.out_channels)
        if isinstance(after, nn.BatchNorm2d):
            scale = after.weight.double() / (after.running_var.double() + after.eps).sqrt()
            weight = weight * scale[:, None, None]
            bias = (after.bias.double() - after.running_mean.double() * scale).detach()
        result.append((layer, weight.detach().float(), bias.float()))
    return result


def chain(network: nn.Sequential, z: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    layers = folded(network)
    _, weight, bias = layers[0]
    first = linear.pack(weight.flatten(1), dtype, image=tuple(weight.shape[1:]))
    x = linear.launch(z.to(dtype), first, linear.pack_bias(bias, first), activation="relu")
    for layer, weight, bias in layers[1:]:
        last = layer is layers[-1][0]
        packed = conv_transpose.pack(weight, layer.stride, (1, 1, 1, 1), dtype)
        x = conv_transpose.launch(
            x,
            packed,
            bias,
            activation="tanh" if last else "relu",
            out_format="float32_nchw" if last else "nhwc",
        )
    return x


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float32, "fp32"), (torch.float16, "fp16")])
def test_dcgan_64(dtype, kind, device):
    generator = new_generator(torch.device("cpu"))
    network = generator_network(generator)
    z = torch.randn(2, 100, 1, 1, generator=generator)
    with torch.no_grad():
        expected = network(z)
        images = chain(network.to(device), z.to(device), dtype)
    assert images.shape == (2, 3, 64, 64)
    assert (images.cpu() - expected).abs().max() <= MAX_ABS[kind]
