"""Small networks that take images of some sizes only, each in a way that published ones do."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Patches(nn.Module):
    """Patches, as a vision transformer's, and resized back: other sizes lose their rest."""

    def __init__(self, patch: int | tuple[int, int]) -> None:
        super().__init__()
        self.patch = (patch, patch) if isinstance(patch, int) else patch
        self.embed = nn.Conv2d(3, 3, self.patch, stride=self.patch)

    def forward(self, image: Tensor) -> Tensor:
        scale = [float(side) for side in self.patch]
        return torch.tanh(F.interpolate(self.embed(image), scale_factor=scale, mode="bilinear"))


class Halvings(nn.Module):
    """A U-Net of `depth` halvings, as pix2pix's unet_256 with 8."""

    def __init__(self, depth: int, width: int = 3) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(3 if level == 0 else width, width, 4, 2, 1) for level in range(depth)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(
                width * (1 if level == 0 else 2), width if level < depth - 1 else 3, 4, 2, 1
            )
            for level in range(depth)
        )

    def forward(self, image: Tensor) -> Tensor:
        kept, x = [], image
        for down in self.down:
            x = F.relu(down(x))
            kept.append(x)
        x = kept.pop()
        for up in self.up:
            x = up(x)
            x = torch.cat([x, kept.pop()], 1) if kept else x
        return torch.tanh(x)


class Unshuffled(nn.Module):
    """Pixels of a window as channels, and back at `scale` times the size."""

    def __init__(self, window: int, scale: int = 1) -> None:
        super().__init__()
        self.window, self.scale = window, scale
        self.mix = nn.Conv2d(3 * window**2, 3 * (window * scale) ** 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.mix(F.pixel_unshuffle(image, self.window))
        return torch.tanh(F.pixel_shuffle(x, self.window * self.scale))


def attend(x: Tensor, window: int) -> Tensor:
    """Attention among the pixels of each window of [n, h, w, c], as in Swin (Liu et al. 2021)."""
    n, h, w, c = x.shape
    rows, columns = h // window, w // window
    x = x.view(n, rows, window, columns, window, c).permute(0, 1, 3, 2, 4, 5)
    tokens = x.reshape(-1, window * window, c)
    weights = torch.softmax(tokens @ tokens.transpose(1, 2) / math.sqrt(c), -1)
    x = (weights @ tokens).view(n, rows, columns, window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)


class Windows(nn.Module):
    """Attention within windows after some halvings, upscaled; windows of several sizes in turn."""

    def __init__(self, *windows: int, halvings: int = 0, scale: int = 1) -> None:
        super().__init__()
        self.windows = windows
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(4, 4, 2, 2) for _ in range(halvings))
        self.last = nn.Conv2d(4, 3 * (scale << halvings) ** 2, 1)
        self.shuffle = nn.PixelShuffle(scale << halvings)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        for down in self.down:
            x = down(x)
        x = x.permute(0, 2, 3, 1)
        for window in self.windows:
            x = x + attend(x, window)
        return torch.tanh(self.shuffle(self.last(x.permute(0, 3, 1, 2))))


class Shifted(nn.Module):
    """Windows shifted by half their size, with the mask that the graph makes for its image."""

    def __init__(self, window: int, scale: int = 1, heads: int = 2) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3 * scale**2, 1)
        self.products, self.shuffle = nn.Linear(8, 24), nn.PixelShuffle(scale)

    def windows(self, x: Tensor) -> Tensor:
        (n, h, w, c), k = x.shape, self.window
        x = x.view(n, h // k, k, w // k, k, c).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, k * k, c)

    def forward(self, image: Tensor) -> Tensor:
        k, half = self.window, self.window // 2
        x = torch.roll(self.first(image).permute(0, 2, 3, 1), (-half, -half), (1, 2))
        n, h, w, c = x.shape
        part = torch.zeros(1, h, w, 1)
        part[:, :-k] = 1.0
        part[:, :, :-k] += 2.0
        parts = self.windows(part)[..., 0]
        mask = (parts[:, None] != parts[:, :, None]).float() * -100
        tokens = self.products(self.windows(x)).view(-1, k * k, 3, self.heads, c // self.heads)
        queries, keys, values = tokens.permute(2, 0, 3, 1, 4)
        weights = (queries @ keys.transpose(-2, -1)).view(n, -1, self.heads, k * k, k * k)
        weights = (weights + mask[None, :, None]).view(-1, self.heads, k * k, k * k)
        x = (torch.softmax(weights, -1) @ values).transpose(1, 2).reshape(-1, k * k, c)
        x = x.view(n, h // k, w // k, k, k, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        x = torch.roll(x, (half, half), (1, 2)).permute(0, 3, 1, 2)
        return torch.tanh(self.shuffle(self.last(x)))


class PadsItself(nn.Module):
    """Windows of 8 like SwinIR's (Liang et al. 2021): the graph pads to them, and crops."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale, self.body = scale, Windows(8, scale=scale)

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2:]
        image = F.pad(image, (0, (8 - w % 8) % 8, 0, (8 - h % 8) % 8), "reflect")
        return self.body(image)[:, :, : h * self.scale, : w * self.scale]


class Unpadded(nn.Module):
    """Convolutions without padding before an upscaling, like waifu2x's: 2 * size - 12."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 5), nn.ConvTranspose2d(4, 3, 4, 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.last(F.leaky_relu(self.first(image), 0.1)))


class Valid(nn.Module):
    """The first U-Net (Ronneberger et al. 2015): no padding, skips cropped by constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(c, 4, 3) for c in (3, 4, 4))
        self.up, self.last_up = (nn.ConvTranspose2d(4, 4, 2, 2) for _ in range(2))
        self.join, self.last = nn.Conv2d(8, 4, 3), nn.Conv2d(8, 3, 3)

    def forward(self, image: Tensor) -> Tensor:
        outer = F.relu(self.first(image))
        inner = F.relu(self.second(F.max_pool2d(outer, 2)))
        x = self.up(F.relu(self.third(F.max_pool2d(inner, 2))))
        x = F.relu(self.join(torch.cat([inner[:, :, 2:-2, 2:-2], x], 1)))
        return torch.tanh(self.last(torch.cat([outer[:, :, 8:-8, 8:-8], self.last_up(x)], 1)))


class OddSizes(nn.Module):
    """A stride and its transpose without padding: odd sizes come back, even ones lose a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, 2), nn.ConvTranspose2d(4, 3, 3, 2)

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(self.up(F.relu(self.down(image))))


class Traced(nn.Module):
    """An early Swin: it was built for one resolution, and its windows are counted by constants."""

    def __init__(self, height: int, width: int, window: int = 8) -> None:
        super().__init__()
        self.size, self.window = (height, width), window
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        (h, w), k = self.size, self.window
        x = self.first(image).permute(0, 2, 3, 1)
        x = x.reshape(-1, h // k, k, w // k, k, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, k * k, 4)
        x = torch.softmax(x @ x.transpose(1, 2), -1) @ x
        x = x.reshape(-1, h // k, w // k, k, k, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, 4)
        return torch.tanh(self.last(x.permute(0, 3, 1, 2)))


class Positions(nn.Module):
    """A learnt embedding of each position, which fits one size."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, 4, height // 4, width // 4))
        self.first, self.last = nn.Conv2d(3, 4, 4, 4), nn.ConvTranspose2d(4, 3, 4, 4)

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(self.last(F.relu(self.first(image) + self.embedding)))


class Cropped(nn.Module):
    """Its exporter's example is left as the size that the result is cropped to."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = height, width
        self.body = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.tanh(F.pixel_shuffle(self.body(image), 2))
        return x[:, :, : 2 * self.size[0], : 2 * self.size[1]]


class Stretched(nn.Module):
    """Twice as high, and half as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, (4, 3), (2, 1), (1, 1))
        self.down = nn.Conv2d(4, 3, (3, 4), (1, 2), (1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.down(F.relu(self.up(image))))


class Reflected(nn.Module):
    """Reflection padding inside, also at half the size: images must be larger than it is."""

    def __init__(self, outer: int = 3, inner: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReflectionPad2d(outer), nn.Conv2d(3, 4, 2 * outer + 1))
        self.down = nn.Conv2d(4, 4, 2, 2)
        self.inner = nn.Sequential(nn.ReflectionPad2d(inner), nn.Conv2d(4, 4, 2 * inner + 1))
        self.up = nn.ConvTranspose2d(4, 3, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(self.up(F.relu(self.inner(self.down(F.relu(self.first(image)))))))
