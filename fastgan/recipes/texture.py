"""A spatial GAN: one texture, of any size, that tiles without a seam. For games.

The generator is fully convolutional, and its latent is a field of normal numbers: each place of it
becomes 8x8 pixels, so a field of 256x256 makes 2048x2048. Every convolution wraps around, as on a
torus: what is generated continues at its own opposite edge, whatever its size. The discriminator
sees crops that are smaller than what was generated, and judges each neighbourhood by itself.

Jetchev et al., "Texture Synthesis with Spatial Generative Adversarial Networks" (2016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from fastgan.errors import ArgumentError
from fastgan.recipes import gan, images, losses, photographs
from fastgan.recipes.gan import normed
from fastgan.recipes.photographs import Photographs, Split
from fastgan.recipes.system import built, fixed

NAME = "texture"
PIXELS = 8  #: of the image, high and wide, for each place of the latent field


@dataclass(frozen=True)
class TextureSettings(gan.Settings):
    """Beside the others:

    Attributes:
        texture: without a folder of images, "grass", "gravel" or "brick".
        shrink: how many times smaller the packaged texture of 512x512 is taken; a folder's images
            are taken as they are.
        width: channels of the widest layers.
        reach: residual blocks more on the latent field, so that places further apart agree, and
            levels more of the discriminator, which sees as far: for what is laid in rows.
    """

    steps: int = 2500
    batch: int = 12
    size: int = 64
    latent: int = 16
    shift: float = 0.0
    lr: float = 3e-4
    average: float = 0.995
    diversity: float = 0.02
    texture: str = "gravel"
    shrink: int = 2
    width: int = 64
    reach: int = 0


SETTINGS = {
    "ship": TextureSettings(),
    "full": replace(TextureSettings(), steps=40_000, batch=32, size=128, width=96, average=0.999),
    "quick": replace(TextureSettings(), steps=30, batch=4, size=32, width=8, average=0.9),
}


def wrapped(x: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] with its opposite edge beside each edge, [N, C, H + 2, W + 2]."""
    x = torch.cat([x[:, :, :, -1:], x, x[:, :, :, :1]], 3)
    return torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2)


class Neighbours(nn.Module):
    """x + relu(norm(conv(x))) at [N, width, h, w], wrapped around."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*normed(nn.Conv2d(width, width, 3, bias=False)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.layers(wrapped(x))
        return y


class Generator(nn.Module):
    """Latent fields [N, latent, h, w] to images [N, channels, 8 h, 8 w] in [-1, 1].

    A transposed convolution of the field with its opposite edges beside it makes two rows and two
    columns more at each edge than it should: its padding of 3, in place of 1, crops them.
    """

    def __init__(self, latent: int, channels: int, width: int, reach: int = 0) -> None:
        super().__init__()
        self.first = nn.Sequential(*normed(nn.Conv2d(latent, width, 3, bias=False)))
        self.further = nn.Sequential(*[Neighbours(width) for _ in range(reach)])
        self.ups = nn.ModuleList(
            nn.Sequential(*normed(nn.ConvTranspose2d(depth, wide, 4, 2, 3, bias=False)))
            for depth, wide in pairwise((width, width * 3 // 4, width // 2, width // 4))
        )
        self.last = nn.Conv2d(width // 4, channels, 3)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        x = self.further(self.first(wrapped(latent)))
        for up in self.ups:
            x = up(wrapped(x))
        return torch.tanh(self.last(wrapped(x)))


class Discriminator(nn.Sequential):
    """Images [N, channels, H, W] to logits [N, 1, H / 8, W / 8], one for each neighbourhood.

    With `reach` they are of larger neighbourhoods, and fewer: each halves H and W once more.
    """

    def __init__(self, channels: int, width: int = 32, reach: int = 0) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        widths = [width * (1 + level) for level in range(3 + reach)]
        for depth, wide in pairwise(widths):
            layers += normed(nn.Conv2d(depth, wide, 4, 2, 1, bias=False))
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))


def data(settings: TextureSettings, folder: Path | None) -> Photographs:
    """What is trained on: three quarters of a texture, or of each image in a folder, from above.

    Raises:
        ArgumentError: no such texture, or an image too small to cut patches from.
    """
    return part(settings, folder, "train")


def part(settings: TextureSettings, folder: Path | None, split: Split) -> Photographs:
    """Three quarters of the texture to train on, or the quarter below them that is held out."""
    if folder is None:
        packaged = photographs.texture(settings.texture, split, settings.shrink)
        return photographs.large_enough(packaged, settings.size) if split == "train" else packaged
    found = []
    for file in images.files(folder):
        pixels = photographs.pixels(images.read(file))
        border = pixels.shape[1] * 3 // 4
        cut = pixels[:, :border] if split == "train" else pixels[:, border:]
        if min(cut.shape[1:]) < settings.size and split == "train":
            size = f"{pixels.shape[2]}x{pixels.shape[1]} pixels"
            least = -(-settings.size * 4 // 3)
            raise ArgumentError(str(file), size, f"at least {settings.size}x{least}")
        found.append(cut)
    return Photographs(tuple(found), str(folder.name))


class Texture(gan.Adversarial):
    """The recipe of a spatial GAN."""

    options: TextureSettings

    def __init__(
        self,
        settings: TextureSettings,
        generator: nn.Module,
        discriminator: nn.Module,
        texture: Photographs,
    ) -> None:
        super().__init__(NAME, generator, discriminator, settings, str(texture))
        self.texture = texture

    def real(self, draw: torch.Generator) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        patches = self.texture.patches(self.options.batch, self.options.size, draw)
        return patches.to(self.device), ()

    def latents(self, count: int, draw: torch.Generator) -> torch.Tensor:
        """Fields that make a little more than a patch."""
        places = self.options.size // PIXELS + 1
        return torch.randn(count, self.options.latent, places, places, generator=draw)

    def seen(self, shown: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        """A random crop of what was generated; it must not be seen that the image wraps around."""
        size, (height, width) = self.options.size, shown.shape[2:]
        top = int(torch.randint(height - size + 1, (), generator=draw))
        left = int(torch.randint(width - size + 1, (), generator=draw))
        return shown[:, :, top : top + size, left : left + size]

    def samples(self, count: int) -> torch.Tensor:
        """Real patches, and below them generated ones."""
        draw, size = fixed(), self.options.size
        half = min(10, max(1, count // 2))
        real = self.texture.patches(half, size, draw)
        with torch.no_grad():
            made = self.finished()(torch.randn(half, self.options.latent, 16, 16, generator=draw))
        return torch.cat([real, made[:, :, :size, :size]])

    def export(self, path: Path) -> None:
        from fastgan.exporting import export
        from fastgan.model.signature import Input

        shape = ("batch", self.options.latent, "height", "width")
        field = Input("latent", "latent", shape, distribution="normal")
        export(self.finished(), path, inputs=[field])


def build(settings: TextureSettings, texture: Photographs) -> Texture:
    """The recipe for one texture, in patches of `settings.size`.

    Raises:
        ArgumentError: the size is no multiple of 8, or too small for this reach.
    """
    if settings.size % PIXELS:
        raise ArgumentError("size", str(settings.size), f"a multiple of {PIXELS}")
    if not 0 <= settings.reach <= 4 or settings.size < 2 * PIXELS * 2**settings.reach:
        needed = f"0 to 4, and a size of {2 * PIXELS} times 2 ** reach"
        raise ArgumentError("reach", f"{settings.reach} at size {settings.size}", needed)
    channels = texture.pictures[0].shape[0]

    def networks() -> tuple[nn.Module, nn.Module]:
        discriminator = losses.judge(Discriminator(channels, reach=settings.reach), settings)
        generator = Generator(settings.latent, channels, settings.width, settings.reach)
        return generator, discriminator

    return Texture(settings, *built(settings.seed, networks), texture)
