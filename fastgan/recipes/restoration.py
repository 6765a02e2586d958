"""Networks from image to image, trained on pairs, with or without a discriminator.

The weighted sum of the two: Pathak et al., "Context Encoders: Feature Learning by Inpainting"
(2016); Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network" (2017).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch import nn
from torch.nn import functional

from fastgan.errors import ArgumentError
from fastgan.exporting import export
from fastgan.recipes import losses, weights
from fastgan.recipes.networks import PatchDiscriminator
from fastgan.recipes.photographs import Photographs, photographs, varied
from fastgan.recipes.system import Distance, Settings, System, built, fixed

#: Patches [N, 3, size, size] and random numbers in, what the generator is given out.
Damage = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class PairSettings(Settings):
    """Beside those of every recipe:

    Attributes:
        distance: of the restored image from the whole one: "l1" or "rmse" (`losses.distance`).
        vary: whether patches are also turned, and made brighter, darker or paler.
        adversarial: weight of the discriminator's view beside that of the distance; 0 trains
            without a discriminator, for the least distance.
        warm: for so many steps the generator learns from the distance alone.
        start: a model to start from, a shipped one by name or a file; "" for untrained weights.
    """

    size: int = 64
    distance: Distance = "l1"
    vary: bool = False
    adversarial: float = 0.0
    warm: int = 0
    start: str = ""


@dataclass(frozen=True)
class UNetSettings(PairSettings):
    """Beside the others: `width`, the channels at half the size; below there are more."""

    width: int = 32


#: For the least squared error, which PSNR is made of: on a CPU in minutes, and for a GPU.
SHIP = UNetSettings(
    lr=2e-3, lr_end=0.01, momentum=0.9, distance="rmse", vary=True, precision="bf16"
)
FULL = replace(SHIP, steps=200_000, lr=1e-3, width=64, size=128, precision="float32")


def data(settings: PairSettings, folder: Path | None) -> tuple[Photographs, Photographs]:
    """Photographs to train with, and those held out."""
    size = settings.size
    return photographs("train", folder, least=size), photographs("test", folder, least=size)


def patch_discriminator(settings: Settings, channels: int = 3, seed: int = 1) -> nn.Module:
    """A patch discriminator of images of so many channels; `seed` is added to the settings' own."""
    own = settings.seed + seed
    return built(own, lambda: losses.judge(PatchDiscriminator(channels), settings))


class Restoration(System):
    """A generator that undoes `damage`.

    Args:
        make: makes the generator, damaged images in [-1, 1] to whole ones.
        found: what patches are cut from, and those that the samples and the score show.
        seen: how many channels the discriminator sees.

    Raises:
        ArgumentError: the model to start from is missing, or another network; or there is no
            distance of this name.
    """

    options: PairSettings

    def __init__(
        self,
        name: str,
        settings: PairSettings,
        make: Callable[[], nn.Module],
        damage: Damage,
        found: tuple[Photographs, Photographs],
        seen: int = 3,
        **others: nn.Module,
    ) -> None:
        generator, discriminator = built(settings.seed, make), patch_discriminator(settings, seen)
        if settings.distance not in get_args(Distance):
            raise ArgumentError("distance", repr(settings.distance), "l1 or rmse")
        if settings.start:
            weights.load(generator, settings.start)
        self.train, self.test = found
        super().__init__(
            name, settings, str(self.train), generator, discriminator=discriminator, **others
        )
        self.discriminator, self.damage = discriminator, damage

    def pair(self, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures damaged and whole, where they are computed with."""
        whole = self.whole(draw)
        given = self.damage(whole, draw).to(self.device, memory_format=torch.channels_last)
        return given, whole.to(self.device)

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train the discriminator, where it has a say, then the generator."""
        s = self.options
        given, real = self.pair(draw)
        with self.autocast():
            fake = self.restored(self.generator, given).float()
        distance = losses.distance(fake, real, s.distance)
        found = {s.distance.upper(): distance.item()}
        if not s.adversarial or self.steps_done("generator") < s.warm:
            self.descend(distance, "generator")
            self.update_average()
            return found

        real.requires_grad_(s.r1 > 0)
        with self.autocast():
            on_real = self.judged(given, real)
            on_fake = self.judged(given, fake.detach())
        d_loss = losses.discriminator_loss(on_real, on_fake, s.loss, s.label_smoothing)
        penalty = s.r1 / 2 * losses.r1(on_real, real) if s.r1 else 0.0
        self.descend(d_loss + penalty, "discriminator")

        self.discriminator.requires_grad_(False)
        with self.autocast():
            g_loss = losses.generator_loss(self.judged(given, fake), s.loss)
        self.descend(distance + s.adversarial * g_loss, "generator")
        self.discriminator.requires_grad_(True)
        self.update_average()
        return {**found, "D": d_loss.item(), "G": g_loss.item()}

    def whole(self, draw: torch.Generator) -> torch.Tensor:
        """Patches to train with, [batch, 3, size, size]."""
        s = self.options
        patches = self.train.patches(s.batch, s.size, draw)
        return varied(patches, draw) if s.vary else patches

    def restored(self, network: nn.Module, given: torch.Tensor) -> torch.Tensor:
        """What a generator makes of what `damage` gives."""
        made: torch.Tensor = network(given)
        return made

    def judged(self, given: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """The discriminator's logits of images, whether or not they were restored from `given`."""
        logits: torch.Tensor = self.discriminator(image)
        return logits.float()

    def pairs(self, count: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """The same held-out patches each time: damaged, and whole."""
        draw = fixed(seed)
        whole = self.test.patches(count, size, draw)
        return self.damage(whole, draw), whole

    def samples(self, count: int) -> torch.Tensor:
        """Held-out patches: damaged, restored, whole, side by side."""
        given, whole = self.pairs(max(1, count // 3), self.options.size)
        with torch.no_grad():
            restored = self.restored(self.finished(), given)
        seen = given[:, :3].expand(-1, 3, -1, -1)
        shown = functional.interpolate(seen, whole.shape[-2:], mode="nearest")
        return torch.stack([shown, restored, whole], 1).flatten(0, 1)

    def score(self) -> float | None:
        """The mean absolute error on held-out patches."""
        given, whole = self.pairs(32, self.options.size)
        with torch.no_grad():
            return functional.l1_loss(self.restored(self.finished(), given), whole).item()

    def export(self, path: Path) -> None:
        """Write the finished generator as ONNX: an image in, an image out, of any size."""
        export(self.finished(), path, image=(3, "height", "width"), range=(-1, 1))
