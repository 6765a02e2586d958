"""StyleGAN2: Karras et al., "Analyzing and improving the image quality of StyleGAN", 2020.

The modulated convolution (section 2.2) is written in both ways that are about:
"groups": each sample has weights of its own, and the batch becomes the groups of one convolution;
"scaled": the input channels are scaled before a shared convolution, its outputs after it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQRT2 = math.sqrt(2.0)


class Equalised(nn.Module):
    """A dense layer with weights N(0, 1), scaled in the graph."""

    def __init__(self, before: int, after: int, bias: float = 0.0, activate: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before))
        self.bias = nn.Parameter(bias + 0.1 * torch.randn(after))
        self.scale, self.activate = before**-0.5, activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.scale, self.bias)
        return F.leaky_relu(y, 0.2) * SQRT2 if self.activate else y


def blur_kernel(channels: int) -> Tensor:
    """The FIR filter [1, 3, 3, 1] in both directions, to a sum of 4: [channels, 1, 4, 4]."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return (torch.outer(taps, taps) / 16).repeat(channels, 1, 1, 1)


def filtered(x: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:
    """Every channel filtered by itself."""
    return F.conv2d(F.pad(x, (*pad, *pad)), kernel, groups=kernel.shape[0])


def upsampled(x: Tensor, kernel: Tensor) -> Tensor:
    """Zeros between the pixels, then the filter: the image of the skip path, twice as large."""
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height, 1, width, 1)
    x = F.pad(x, (0, 1, 0, 0, 0, 1)).reshape(n, channels, height * 2, width * 2)
    return filtered(x, kernel, (2, 1))


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style, and demodulated behind it."""

    def __init__(
        self, before: int, after: int, kernel: int, style: int, way: str, up: bool, demodulate: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.style = Equalised(style, before, bias=1.0)
        self.scale = (before * kernel * kernel) ** -0.5
        self.way, self.up, self.demodulate, self.kernel = way, up, demodulate, kernel
        self.register_buffer("blur", blur_kernel(after))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.style(w)  # [N, before]
        return self.grouped(x, style) if self.way == "groups" else self.scaled(x, style)

    def grouped(self, x: Tensor, style: Tensor) -> Tensor:
        n = int(x.shape[0])  # the groups of a convolution are a number: this freezes the batch
        after, before, *kernel = self.weight.shape
        weight = self.scale * self.weight[None] * style[:, None, :, None, None]
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        size = [int(s) for s in x.shape[2:]]
        x = x.reshape(1, n * before, *size)
        if self.up:
            weight = weight.transpose(1, 2).reshape(n * before, after, *kernel)
            y = F.conv_transpose2d(x, weight, stride=2, groups=n)
            return filtered(y.reshape(n, after, *[2 * s + 1 for s in size]), self.blur, (1, 1))
        weight = weight.reshape(n * after, before, *kernel)
        y = F.conv2d(x, weight, padding=self.kernel // 2, groups=n)
        return y.reshape(n, after, *size)

    def scaled(self, x: Tensor, style: Tensor) -> Tensor:
        weight = self.scale * self.weight
        x = x * style[:, :, None, None]
        if self.up:
            y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            y = filtered(y, self.blur, (1, 1))
        else:
            y = F.conv2d(x, weight, padding=self.kernel // 2)
        if self.demodulate:
            power = (style * style) @ (weight * weight).sum([2, 3]).t()  # [N, after]
            y = y * torch.rsqrt(power + 1e-8)[:, :, None, None]
        return y


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky relu with gain sqrt 2."""

    def __init__(
        self, before: int, after: int, style: int, size: int, way: str, up: bool = False
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(before, after, 3, style, way, up, demodulate=True)
        self.register_buffer("noise", torch.randn(1, 1, size, size))
        self.strength = nn.Parameter(torch.tensor(0.1))
        self.bias = nn.Parameter(0.1 * torch.randn(after))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        y = self.conv(x, w) + self.strength * (self.noise if noise is None else noise)
        return F.leaky_relu(y + self.bias[:, None, None], 0.2) * SQRT2


class ToRGB(nn.Module):
    """A modulated 1x1 convolution without demodulation, added to the upsampled image."""

    def __init__(self, channels: int, style: int, way: str) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels, 3, 1, style, way, up=False, demodulate=False)
        self.bias = nn.Parameter(0.1 * torch.randn(1, 3, 1, 1))
        self.register_buffer("kernel", blur_kernel(3))

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None) -> Tensor:
        y = self.conv(x, w) + self.bias
        return y if image is None else y + upsampled(image, self.kernel)


class StyleGAN2(nn.Module):
    """Latent [N, latent] and noises [N, 1, 8, 8], [N, 1, 16, 16], if asked for -> [N, 3, 16, 16].

    The noise is fixed unless it is given. Truncation by psi = 0.7 is part of the network.
    """

    def __init__(self, latent: int, channels: int, way: str) -> None:
        super().__init__()
        self.mapping = nn.Sequential(*[Equalised(latent, latent, activate=True) for _ in range(3)])
        self.register_buffer("w_mean", 0.2 * torch.randn(latent))
        self.constant = nn.Parameter(torch.randn(1, channels, 4, 4))
        self.first = StyledConv(channels, channels, latent, 4, way)
        self.first_rgb = ToRGB(channels, latent, way)
        self.ups = nn.ModuleList(
            [StyledConv(channels, channels, latent, size, way, up=True) for size in (8, 16)]
        )
        self.convs = nn.ModuleList(
            [StyledConv(channels, channels, latent, size, way) for size in (8, 16)]
        )
        self.to_rgb = nn.ModuleList([ToRGB(channels, latent, way) for _ in range(2)])

    def forward(self, z: Tensor, *noises: Tensor) -> Tensor:
        z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        w = self.w_mean + 0.7 * (self.mapping(z) - self.w_mean)
        x = self.first(self.constant.expand(z.shape[0], -1, -1, -1), w)
        image = self.first_rgb(x, w, None)
        for index, (up, conv, rgb) in enumerate(
            zip(self.ups, self.convs, self.to_rgb, strict=True)
        ):
            x = conv(up(x, w), w, noises[index] if noises else None)
            image = rgb(x, w, image)
        return 0.3 * image


class StyleGAN2WithNoise(StyleGAN2):
    """The same with its noise maps as inputs."""

    def forward(self, z: Tensor, noise8: Tensor, noise16: Tensor) -> Tensor:
        return super().forward(z, noise8, noise16)
