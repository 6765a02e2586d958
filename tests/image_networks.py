"""Small image-to-image networks with random weights, each of a kind that users bring."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def seeded(module: nn.Module, seed: int) -> nn.Module:
    """The module with weights of its own, large enough that no result is flat."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 4 * len(parameter)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
    return module.eval()


class Espcn(nn.Module):
    """Sub-pixel upscaling (Shi et al. 2016); sees 2 + 1 + 1 = 4 pixels around each."""

    def __init__(self, scale: int = 2, channels: int = 3, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(width, channels * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Denoiser(nn.Module):
    """A residual convolutional denoiser; sees 3 pixels around each."""

    def __init__(self, channels: int = 3, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.first(image))
        x = torch.relu(self.middle(x))
        return torch.tanh(image + 0.3 * self.last(x))


class UNet(nn.Module):
    """Three halvings and skip connections: heights and widths must be multiples of 8."""

    def __init__(self, channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(channels if i == 0 else width, width, 4, 2, 1) for i in range(3)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(width * (1 if i == 2 else 2), width, 4, 2, 1) for i in range(3)
        )
        self.last = nn.Conv2d(width + channels, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        skips, x = [], image
        for down in self.down:
            skips.append(x)
            x = torch.nn.functional.leaky_relu(down(x), 0.2)
        for i in (2, 1, 0):
            x = torch.cat([torch.relu(self.up[i](x)), skips[i]], 1)
        return torch.tanh(self.last(x))


class Inpainter(nn.Module):
    """Gets the image with the hole blanked and the mask, as a fourth channel."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, width, 5, padding=2)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat([image * (1 - mask), mask], 1)
        return torch.tanh(self.last(torch.relu(self.first(x))))


class LabelledTranslator(nn.Module):
    """StarGAN's way with a target class: a one-hot label spread over the image."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3 + classes, 8, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        planes = label[:, :, None, None].expand(-1, -1, image.shape[2], image.shape[3])
        return torch.tanh(self.last(self.layers(torch.cat([image, planes], 1))))


class Stylist(nn.Module):
    """Adaptive instance normalisation: the content, with the channel statistics of the style."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encode = nn.Conv2d(3, width, 3, padding=1)
        self.decode = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        x, s = self.encode(content), self.encode(style)
        mean, scale = x.mean((2, 3), keepdim=True), (x - x.mean((2, 3), keepdim=True)).square()
        goal = s.mean((2, 3), keepdim=True)
        spread = (s - goal).square().mean((2, 3), keepdim=True)
        x = (x - mean) * ((spread + 1e-5) / (scale.mean((2, 3), keepdim=True) + 1e-5)).sqrt()
        return torch.tanh(self.decode(x + goal))


class Halver(nn.Module):
    """A result of half the size, rounded up."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(image))


class Cropper(nn.Module):
    """Convolutions without padding: the result lacks a border of 2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 5)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(image))


class Reflector(nn.Module):
    """Reflection padding inside, which needs images larger than 3 pixels a side."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 3, 7), nn.Tanh())

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)
