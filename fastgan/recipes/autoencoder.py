"""Networks that encode an image and decode it again; what a latent then makes is a new image.

The encoder and the decoder are exported as two files: the decoder is a generator like any other,
NAME.onnx, and the encoder, NAME-encoder.onnx, gives for an image the mean and the log variance of
the latents that stand for it, side by side.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from fastgan.errors import ArgumentError
from fastgan.recipes import images as pictures
from fastgan.recipes import losses, photographs
from fastgan.recipes import system as common
from fastgan.recipes.system import System, fixed

Subject = Literal["digits", "faces"]


@dataclass(frozen=True)
class AutoencoderSettings(common.Settings):
    """Beside those of every recipe:

    Attributes:
        latent: how many numbers an image becomes.
        width: channels of the widest layers.
        subject: without a folder of images, "digits" or "faces".
    """

    steps: int = 4000
    batch: int = 64
    lr: float = 1e-3
    latent: int = 16
    width: int = 32
    subject: Subject = "digits"


class Encoder(nn.Sequential):
    """Images [N, channels, 32, 32] in [-1, 1] to means and log variances, [N, 2 * latent]."""

    def __init__(self, latent: int, channels: int, width: int) -> None:
        layers: list[nn.Module] = []
        for depth, wide in ((channels, width // 2), (width // 2, width), (width, width)):
            layers += [nn.Conv2d(depth, wide, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Flatten(), nn.Linear(width * 4 * 4, 128), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Linear(128, 2 * latent))


class Decoder(nn.Module):
    """Latents [N, latent] to images [N, channels, 32, 32] in [-1, 1]."""

    def __init__(self, latent: int, channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.dense = nn.Sequential(
            nn.Linear(latent, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, width * 4 * 4),
            nn.LeakyReLU(0.2),
        )
        self.convolutions = nn.Sequential(
            nn.ConvTranspose2d(width, width, 4, 2, 1),  # [N, width, 8, 8]
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),  # [N, width / 2, 16, 16]
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(width // 2, channels, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.convolutions(self.dense(latent).view(-1, self.width, 4, 4))
        return images


class Pair(nn.Module):
    """An encoder and its decoder: averaged, and saved, together."""

    def __init__(self, latent: int, channels: int, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(latent, channels, width)
        self.decoder = Decoder(latent, channels, width)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latents of images, [N, latent] each."""
        mean, log_variance = self.encoder(images).float().chunk(2, 1)
        return mean, log_variance

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        decoded: torch.Tensor = self.decoder(self.encode(images)[0])
        return decoded


def data(settings: AutoencoderSettings, folder: Path | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images to train with and those held out: digits, faces, or a folder's, every fifth held out.

    Raises:
        ArgumentError: the subject is neither, or the folder holds fewer than two images.
    """
    if folder is not None:
        found = pictures.folder(folder, settings.size, 1)
        if len(found) < 2:
            raise ArgumentError(str(folder), "1 image", "at least two: one is held out")
        held_out = torch.arange(len(found)) % 5 == 0
        return found[~held_out], found[held_out]
    subject, size = settings.subject, settings.size
    return photographs.subject(subject, "train", size), photographs.subject(subject, "test", size)


def check(settings: AutoencoderSettings) -> None:
    """That the networks fit the images.

    Raises:
        ArgumentError: of another size than 32.
    """
    if settings.size != 32:
        raise ArgumentError("size", str(settings.size), "32")


class Autoencoder(System):
    """What `vae` and `aae` share; each adds its `step`.

    Args:
        pair: the encoder and the decoder.
        found: images to train with and those held out, [M, C, 32, 32] in [-1, 1].
    """

    options: AutoencoderSettings

    def __init__(
        self,
        name: str,
        settings: AutoencoderSettings,
        pair: Pair,
        found: tuple[torch.Tensor, torch.Tensor],
        **others: nn.Module,
    ) -> None:
        self.images, self.held_out = found
        checksum = zlib.crc32(self.images.contiguous().numpy().data)
        line = f"{tuple(self.images.shape)}, checksum {checksum:08x}"
        super().__init__(name, settings, line, pair, **others)
        self.pair = pair

    def batch(self, draw: torch.Generator) -> torch.Tensor:
        """Real images, moved by a few pixels where the settings say so."""
        chosen = torch.randint(len(self.images), (self.options.batch,), generator=draw)
        images = losses.shifted(self.images[chosen], self.options.shift, draw)
        return images.to(self.device)

    def samples(self, count: int) -> torch.Tensor:
        """Held-out images above what they become, row by row; below, images of random latents."""
        pair = self.finished()
        assert isinstance(pair, Pair)
        shown = self.held_out[: min(10, count // 2)]
        rest = torch.randn(count - 2 * len(shown), self.options.latent, generator=fixed())
        with torch.no_grad():
            return torch.cat([shown, pair(shown), pair.decoder(rest)])

    def score(self) -> float | None:
        """The mean squared error of held-out images."""
        with torch.no_grad():
            return functional.mse_loss(self.finished()(self.held_out), self.held_out).item()

    def export(self, path: Path) -> None:
        """Write the decoder to `path`, and the encoder beside it."""
        from fastgan.exporting import export

        pair = self.finished()
        assert isinstance(pair, Pair)
        export(pair.decoder, path, latent=self.options.latent)
        encoder = path.with_name(f"{path.stem}-encoder.onnx")
        export(pair.encoder, encoder, image=tuple(self.images.shape[1:]), range=(-1, 1))
