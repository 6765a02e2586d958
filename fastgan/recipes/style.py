"""One collection of images in the style of another, with no pairs: cycle consistency.

Two generators, there and back, each against a discriminator of the collection that it paints. What
has gone there and back is to be the image that it was, so that its content has to survive in the
other style. No network is given from elsewhere.

Method: Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks" (2017).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from fastgan.exporting import export
from fastgan.recipes import losses, photographs, restoration
from fastgan.recipes.networks import UNet
from fastgan.recipes.photographs import Photographs
from fastgan.recipes.system import Settings, System, built, fixed

NAME = "style"
#: Photographs to train with and held out, then the same of the other collection.
Collections = tuple[Photographs, Photographs, Photographs, Photographs]


@dataclass(frozen=True)
class StyleSettings(Settings):
    """Beside the others:

    Attributes:
        collection: whose style the photographs take: "histology", "grass", "gravel", "brick", or
            a folder of images.
        shrink: how many times smaller histology is taken: its cells are the brush.
        cycle: weight of the L1 distance after there and back, beside the discriminators' view.
        width: the channels at half the size; below there are more.
    """

    size: int = 64
    collection: str = "histology"
    shrink: int = 1
    cycle: float = 10.0
    width: int = 24


SETTINGS = {
    "ship": StyleSettings(
        steps=5000, average=0.995, batch=8, lr=4e-4, r1=1e-3, shrink=2, cycle=2.0, precision="bf16"
    ),
    "full": StyleSettings(
        steps=100_000, lr=2e-4, loss="hinge", spectral_norm=True, size=128, width=64
    ),
    "quick": StyleSettings(steps=30, batch=4, lr=1e-3, width=8, average=0.9, loss="hinge"),
}


def data(settings: StyleSettings, folder: Path | None) -> Collections:
    """The photographs, and the collection whose style they take."""
    size, name = settings.size, settings.collection
    return (
        photographs.photographs("train", folder, least=size),
        photographs.photographs("test", folder, least=size),
        photographs.collection(name, "train", size, settings.shrink),
        photographs.collection(name, "test", size, settings.shrink),
    )


class Painter(nn.Module):
    """Images [N, 3, H, W] to the same in another style, both in [-1, 1]; multiples of 8.

    It starts as what changes nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = UNet(3, 3, (width, width * 2, width * 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        painted: torch.Tensor = image + self.network(image)
        return painted


class SideBySide(nn.Module):
    """Logits [N, 1, h, w] as [N, h * w]."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.reshape(logits.shape[0], -1)  # not flatten, which exports sums of sizes


class Cycle(System):
    """Two generators and two discriminators: `generator` paints, `back` takes the paint away."""

    options: StyleSettings

    def __init__(self, settings: StyleSettings, found: Collections) -> None:
        self.train, self.test, self.style, self.held_out_style = found
        seeds = (settings.seed, settings.seed + 1)
        generator, back = (built(seed, lambda: Painter(settings.width)) for seed in seeds)
        styled, plain = (restoration.patch_discriminator(settings, seed=seed) for seed in (2, 3))
        super().__init__(
            NAME,
            settings,
            f"{self.train}; {self.style}",
            generator,
            back=back,
            discriminator=styled,
            discriminator_back=plain,
        )

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train both discriminators, then both generators."""
        s, networks = self.options, self._networks
        photo, style = (
            found.patches(s.batch, s.size, draw).to(self.device, memory_format=torch.channels_last)
            for found in (self.train, self.style)
        )
        with self.autocast():
            painted = networks["generator"](photo).float()
            plain = networks["back"](style).float()
        found = {}
        judges = {"discriminator": (style, painted), "discriminator_back": (photo, plain)}
        for name, (real, fake) in judges.items():
            real = real.detach().requires_grad_(s.r1 > 0)
            with self.autocast():
                on_real, on_fake = networks[name](real), networks[name](fake.detach())
            loss = losses.discriminator_loss(
                on_real.float(), on_fake.float(), s.loss, s.label_smoothing
            )
            penalty = s.r1 / 2 * losses.r1(on_real.float(), real) if s.r1 else 0.0
            self.descend(loss + penalty, name)
            networks[name].requires_grad_(False)
            found[name.replace("discriminator", "D")] = loss.item()

        with self.autocast():
            views = [networks[name](fake).float() for name, (_, fake) in judges.items()]
            again = networks["back"](painted).float(), networks["generator"](plain).float()
        view = sum(losses.generator_loss(logits, s.loss) for logits in views)
        cycle = sum(functional.l1_loss(*pair) for pair in zip(again, (photo, style), strict=True))
        assert isinstance(view, torch.Tensor)
        assert isinstance(cycle, torch.Tensor)
        self.descend(view + s.cycle * cycle, "generator", "back")
        for name in judges:
            networks[name].requires_grad_(True)
        self.update_average()
        return {**found, "G": view.item(), "cycle": cycle.item()}

    def samples(self, count: int) -> torch.Tensor:
        """Held-out photographs, painted, and images of the collection, side by side."""
        size, draw = self.options.size, fixed()
        photo = self.test.patches(max(1, count // 3), size, draw)
        style = self.held_out_style.patches(len(photo), size, draw)
        with torch.no_grad():
            painted = self.finished()(photo)
        return torch.stack([photo, painted, style], 1).flatten(0, 1)

    def export(self, path: Path) -> None:
        """Write the painting generator as ONNX: an image in, an image out, of any size.

        Beside it its discriminator, NAME-discriminator.onnx: an image in, its logits side by
        side out, [N, H / 8 * W / 8], above 0 where it takes the place for the collection.
        """
        image = (3, "height", "width")
        export(self.finished(), path, image=image, range=(-1, 1))
        discriminator = copy.deepcopy(self._networks["discriminator"]).cpu().eval()
        judge = nn.Sequential(discriminator, SideBySide())
        export(judge, path.with_name(f"{path.stem}-discriminator.onnx"), image=image)


def build(settings: StyleSettings, found: Collections) -> Cycle:
    """The recipe on these two collections."""
    return Cycle(settings, found)
