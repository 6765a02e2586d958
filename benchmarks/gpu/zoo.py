"""The models that evidence is taken on, as wide as in their papers; and tiny ones to rehearse."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.dcgan import growing
from tests.networks.images.cyclegan import cyclegan
from tests.networks.images.esrgan import ESRGAN
from tests.networks.images.srgan import SRGAN
from tests.networks.stylegan2 import Equalised, StyledConv, ToRGB
from tests.networks.weights import build

LATENT, IMAGE = "latent", "image"


@dataclass(frozen=True)
class Entry:
    """A model: how to make it, and the shape of one input."""

    name: str
    make: Callable[[], nn.Module]
    kind: str
    shape: tuple[int, ...]
    range: tuple[float, float] = (-1.0, 1.0)

    def module(self) -> nn.Module:
        """The module in fp32 on the CPU; the same weights every time."""
        return build(self.make, 1).eval()

    def export(self, folder: Path) -> Path:
        """Its ONNX file, written once."""
        from fastgan import export

        path = folder / f"{self.name}.onnx"
        if not path.exists():
            given = {self.kind: self.shape}
            export(self.module(), path, range=self.range, verify=False, **given)  # type: ignore
        return path

    def inputs(self, n: int, device: torch.device) -> Tensor:
        """Random inputs on the device."""
        x = torch.randn((n, *self.shape), device=device)
        return x if self.kind == LATENT else x.tanh()


def dcgan(latent: int, width: int, size: int) -> nn.Module:
    """Radford et al., 2016: latent [N, latent, 1, 1] -> tanh images [N, 3, size, size]."""
    doublings = size.bit_length() - 3
    widths = [latent, *[width << i for i in reversed(range(doublings))]]
    return nn.Sequential(*growing(widths), nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())


class UNet(nn.Module):
    """pix2pix (Isola et al., 2017): images [N, 3, 2**levels, same] -> tanh images of that size."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        channels = [min(width << i, width * 8) for i in range(levels)]
        self.down = nn.ModuleList(
            [nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise([3, *channels])]
        )
        self.down_norms = nn.ModuleList([nn.BatchNorm2d(c) for c in channels[1:-1]])
        before = [channels[-1], *[c * 2 for c in reversed(channels[:-1])]]
        after = [*reversed(channels[:-1]), 3]
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in zip(before, after, strict=True)]
        )
        self.up_norms = nn.ModuleList([nn.BatchNorm2d(c) for c in after[:-1]])

    def forward(self, x: Tensor) -> Tensor:
        x = self.down[0](x)
        skips = [x]
        for conv, norm in zip(list(self.down)[1:-1], self.down_norms, strict=True):
            x = norm(conv(F.leaky_relu(x, 0.2)))
            skips.append(x)
        x = self.down[-1](F.leaky_relu(x, 0.2))
        for conv, norm in zip(list(self.up)[:-1], self.up_norms, strict=True):
            x = torch.cat([norm(conv(F.relu(x))), skips.pop()], dim=1)
        return torch.tanh(self.up[-1](F.relu(x)))


class StyleGAN2(nn.Module):
    """Karras et al., 2020, skip architecture: latent [N, latent] -> [N, 3, size, size]."""

    def __init__(self, latent: int, size: int, base: int, most: int, depth: int = 8) -> None:
        super().__init__()
        sizes = [4 << i for i in range(size.bit_length() - 2)]
        channels = [min(most, base // s) for s in sizes]
        self.mapping = nn.Sequential(
            *[Equalised(latent, latent, activate=True) for _ in range(depth)]
        )
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.first = StyledConv(channels[0], channels[0], latent, 4, "scaled")
        self.rgb = nn.ModuleList([ToRGB(c, latent, "scaled") for c in channels])
        self.up = nn.ModuleList()
        self.conv = nn.ModuleList()
        for s, (a, b) in zip(sizes[1:], itertools.pairwise(channels), strict=True):
            self.up.append(StyledConv(a, b, latent, s, "scaled", up=True))
            self.conv.append(StyledConv(b, b, latent, s, "scaled"))

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
        x = self.first(self.constant.expand(z.shape[0], -1, -1, -1), w)
        image = self.rgb[0](x, w, None)
        for up, conv, rgb in zip(self.up, self.conv, list(self.rgb)[1:], strict=True):
            x = conv(up(x, w), w)
            image = rgb(x, w, image)
        return 0.2 * image


class Block(nn.Module):
    """Group norm, SiLU, convolution, twice, added to the input."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(groups, before),
            nn.SiLU(),
            nn.Conv2d(before, after, 3, 1, 1),
            nn.GroupNorm(groups, after),
            nn.SiLU(),
            nn.Conv2d(after, after, 3, 1, 1),
        )
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


def vae_decoder(latent: int, width: int, groups: int) -> nn.Module:
    """As in Rombach et al., 2022, without attention: latent [N, latent, S, S] -> 8 S squared."""
    layers: list[nn.Module] = [nn.Conv2d(latent, width * 4, 3, 1, 1)]
    for before, after in itertools.pairwise([width * 4, width * 4, width * 4, width * 2]):
        layers += [Block(before, after, groups), Block(after, after, groups)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(after, after, 3, 1, 1)]
    layers += [Block(width * 2, width, groups), nn.GroupNorm(groups, width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, 1, 1), nn.Tanh())


ZOO = (
    Entry("dcgan64", lambda: dcgan(100, 64, 64), LATENT, (100, 1, 1)),
    Entry("dcgan128", lambda: dcgan(100, 64, 128), LATENT, (100, 1, 1)),
    Entry("cyclegan256", lambda: cyclegan(64, 9), IMAGE, (3, 256, 256)),
    Entry("pix2pix256", lambda: UNet(64, 8), IMAGE, (3, 256, 256)),
    Entry("srgan-x4", lambda: SRGAN(64, 16), IMAGE, (3, 96, 96)),
    Entry("rrdb-x4", lambda: ESRGAN(64, 32, 23), IMAGE, (3, 128, 128), (0.0, 1.0)),
    Entry("stylegan2-256", lambda: StyleGAN2(512, 256, 16384 * 2, 512), LATENT, (512,)),
    Entry("vae-decoder", lambda: vae_decoder(4, 128, 32), LATENT, (4, 32, 32)),
)

#: One of each kind of input, small enough for an interpreter.
TINY = (
    Entry("dcgan64", lambda: dcgan(5, 4, 8), LATENT, (5, 1, 1)),
    Entry("pix2pix256", lambda: UNet(4, 2), IMAGE, (3, 4, 4)),
)

#: All of them, for tests that ask whether each can be built and planned.
SMALL = (
    *TINY,
    Entry("dcgan128", lambda: dcgan(5, 2, 32), LATENT, (5, 1, 1)),
    # At 8x8 its innermost norms are of four pixels, where eager PyTorch itself is 4e-5 off float64.
    Entry("cyclegan256", lambda: cyclegan(4, 1), IMAGE, (3, 16, 16)),
    Entry("vae-decoder", lambda: vae_decoder(2, 4, 2), LATENT, (2, 2, 2)),
    Entry("srgan-x4", lambda: SRGAN(4, 1), IMAGE, (3, 6, 6)),
    Entry("rrdb-x4", lambda: ESRGAN(4, 2, 1), IMAGE, (3, 6, 6), (0.0, 1.0)),
    # Wide enough for filters that stay by themselves.
    Entry("stylegan2-256", lambda: StyleGAN2(8, 16, 192, 12, depth=2), LATENT, (8,)),
)
