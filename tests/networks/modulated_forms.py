"""The modulated convolution of StyleGAN2 as the implementations that are about write it.

Each is a function of images [N, I, S, S], a weight [O, I, k, k] and styles [N, I]; with `up` the
images come out twice as large. What differs is how weights and images are laid out on the way, and
how the FIR filter behind an upsampling is written.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2) / 16


def channels_as_images(x: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """upfirdn2d with every channel an image of its own, channels last in between."""
    _, channels, height, width = x.shape
    y = x.reshape(-1, height, 1, width, 1, 1)
    y = F.pad(y, [0, 0, 0, up - 1, 0, 0, 0, up - 1])
    y = y.view(-1, height * up, width * up, 1)
    y = F.pad(y, [0, 0, *pad, *pad])
    size = height * up + sum(pad)
    y = y[:, 0:size, 0:size, :].permute(0, 3, 1, 2).reshape(-1, 1, size, size)
    y = F.conv2d(y, TAPS.flip(0, 1).view(1, 1, 4, 4))
    y = y.reshape(-1, 1, size - 3, size - 3).permute(0, 2, 3, 1)[:, ::1, ::1, :]
    return y.view(-1, channels, size - 3, size - 3)


def depthwise(x: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """upfirdn2d as a depthwise convolution, of as many channels as there are."""
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height, 1, width, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1])
    x = x.reshape(n, channels, height * up, width * up)
    x = F.pad(x, [*pad, *pad])
    taps = TAPS[None, None].repeat(channels, 1, 1, 1).flip(2, 3)
    return F.conv2d(x, taps, groups=channels)


def grouped_views(x: Tensor, weight: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
    """The batch as groups; demodulated along all axes at once, viewed back and forth."""
    n, before, size, _ = (int(s) for s in x.shape)
    after, kernel = weight.shape[0], weight.shape[2]
    own = before**-0.5 * weight[None] * style.view(n, 1, before, 1, 1)
    if demodulate:
        d = torch.rsqrt(own.pow(2).sum([2, 3, 4]) + 1e-8)
        own = own * d.view(n, after, 1, 1, 1)
    own = own.view(n * after, before, kernel, kernel)
    x = x.reshape(1, n * before, size, size)
    if not up:
        y = F.conv2d(x, own, padding=kernel // 2, groups=n)
        return y.view(n, after, size, size)
    own = own.view(n, after, before, kernel, kernel).transpose(1, 2)
    own = own.reshape(n * before, after, kernel, kernel)
    y = F.conv_transpose2d(x, own, padding=0, stride=2, groups=n)
    return channels_as_images(y.view(n, after, *y.shape[2:]), 1, (1, 1))


def fused(x: Tensor, weight: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
    """The batch as groups, and the filter on the images side by side."""
    n, before, size, _ = (int(s) for s in x.shape)
    after, kernel = weight.shape[0], weight.shape[2]
    own = weight.unsqueeze(0) * style.reshape(n, 1, -1, 1, 1)
    if demodulate:
        d = (own.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt()
        own = own * d.reshape(n, -1, 1, 1, 1)
    x = x.reshape(1, -1, size, size)
    own = own.reshape(-1, before, kernel, kernel)
    if up:
        if n == 1:
            own = own.transpose(0, 1)
        else:
            own = own.reshape(n, after, before, kernel, kernel).transpose(1, 2)
            own = own.reshape(n * before, after, kernel, kernel)
        y = depthwise(F.conv_transpose2d(x, own, stride=2, groups=n), 1, (1, 1))
    else:
        y = F.conv2d(x, own, padding=kernel // 2, groups=n)
    return y.reshape(n, -1, *y.shape[2:])


def around(x: Tensor, weight: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
    """Scales around a shared weight, the demodulation from the weights that it saves."""
    n = x.shape[0]
    d = None
    if demodulate:
        own = weight.unsqueeze(0) * style.reshape(n, 1, -1, 1, 1)
        d = (own.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt()
    x = x * style.reshape(n, -1, 1, 1)
    if up:
        x = depthwise(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, (1, 1))
    else:
        x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
    return x if d is None else x * d.reshape(n, -1, 1, 1)


def one_plus(x: Tensor, weight: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
    """Styles around one, images enlarged before the convolution."""
    if up:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    n, _, height, width = (int(s) for s in x.shape)
    own = weight[None, :, :, :, :] * (style[:, None, :, None, None] + 1)
    if demodulate:
        d = torch.rsqrt((own**2).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        own = own * d
    x = x.reshape(1, -1, height, width)
    _, _, *rest = own.shape
    own = own.reshape(n * weight.shape[0], *rest)
    y = F.conv2d(x, own, padding=weight.shape[2] // 2, groups=n)
    return y.reshape(-1, weight.shape[0], height, width)


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, bool, bool], Tensor]] = {
    "grouped views": grouped_views,
    "fused": fused,
    "around": around,
    "one plus": one_plus,
}


class Synthesis(nn.Module):
    """Latents [N, 10] -> [N, 3, 8, 8]: a convolution, one that doubles, and their images."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.run, self.skip = FORMS[form], channels_as_images if "views" in form else depthwise
        shapes = ((12, 12, 3), (3, 12, 1), (5, 12, 3), (3, 5, 1))
        self.weights = nn.ParameterList([torch.randn(o, i, k, k) for o, i, k in shapes])
        self.styles = nn.ModuleList([nn.Linear(10, i) for _, i, _ in shapes])
        self.biases = nn.ParameterList([torch.randn(o) for o, _, _ in shapes])
        self.constant = nn.Parameter(torch.randn(1, 12, 4, 4))
        self.register_buffer("noise", 0.1 * torch.randn(8, 8))

    def _layer(self, index: int, x: Tensor, z: Tensor, up: bool, noise: Tensor | None) -> Tensor:
        y = self.run(x, self.weights[index], self.styles[index](z) + 1, up, True)
        if noise is not None:
            y = y + noise
        y = y + self.biases[index].reshape([-1 if i == 1 else 1 for i in range(4)])
        return F.leaky_relu(y, 0.2) * 2**0.5

    def _image(self, index: int, x: Tensor, z: Tensor) -> Tensor:
        style = 0.1 * self.styles[index](z)
        y = self.run(x, self.weights[index], style, False, False)
        return y + self.biases[index].view(1, 3, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.constant.repeat(z.shape[0], 1, 1, 1)
        x = self._layer(0, x, z, False, None)
        image = self._image(1, x, z)
        x = self._layer(2, x, z, True, self.noise)
        return self._image(3, x, z) + self.skip(image, 2, (2, 1))
