"""Whether painted photographs look like the collection, and are still what they were.

Two judges that the painter never met: a small classifier of the collection, trained here on what
the painter was trained on and checked on held-out patches, and SSIM of the luma. And one that it
was trained against: its discriminator, NAME-discriminator.onnx, where that lies beside it.
"""

from __future__ import annotations

from functools import cache

import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import fastgan
from fastgan.generator import Generator
from fastgan.recipes import style
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.photographs import JUDGES, Photographs, named, packaged, pixels
from fastgan.recipes.system import built, fixed
from fastgan.recipes.translate import grey

_SIZE, _COUNT = 64, 64
_SUFFIX = "-discriminator"
#: Of scikit-image, beside the photographs: what a classifier of tissue should know is none.
_OTHERS = ("brick", "cell", "coins", "grass", "gravel", "moon", "page")


def figures(generator: Generator) -> dict[str, Figure]:
    """How many painted photographs the judges take for the collection, and their SSIM."""
    classifier = judge()
    photos, tissue = _held_out()
    with torch.no_grad():
        painted = generator(photos).cpu().clamp(-1, 1)
        tinted = recoloured(photos, tissue)
        right = ((classifier(photos) < 0).float() + (classifier(tissue) > 0).float()).mean()
        taken, before, wash = (
            100 * float((classifier(x) > 0).float().mean()) for x in (painted, photos, tinted)
        )
    of = f"of {len(photos)} held-out photographs"
    found = {
        "classifier": Figure(
            float(right) * 50, "held-out patches of both collections told apart", least=95, unit="%"
        ),
        "style": Figure(
            taken,
            f"painted, {of}, taken for the collection ({wash:.1f} of those only given its colours);"
            " unpainted beside it",
            least=80,
            baseline=before,
            unit="%",
        ),
        "content": Figure(
            pairs.ssim(grey(painted).expand_as(photos), grey(photos).expand_as(photos)),
            f"SSIM of the luma {of}, painted and not; of patches of the collection beside it",
            least=0.5,
            baseline=pairs.ssim(grey(tissue).expand_as(photos), grey(photos).expand_as(photos)),
        ),
    }
    discriminator = beside(generator)
    if discriminator is not None:
        real, plain, fake = (view(discriminator, x) for x in (tissue, photos, painted))
        found["discriminator"] = Figure(
            float((real > 0).float().mean() + (fake < 0).float().mean()) * 50,
            "held-out patches of the collection and painted photographs that the training's"
            " discriminator tells apart, 50 % is fooled; unpainted beside it",
            baseline=float((real > 0).float().mean() + (plain < 0).float().mean()) * 50,
            unit="%",
        )
    return found


def beside(generator: Generator) -> Generator | None:
    """The discriminator that the painter was trained against, where its file lies beside it."""
    if generator.path is None:
        return None
    file = generator.path.with_name(f"{generator.path.stem}{_SUFFIX}.onnx")
    if not file.is_file():
        return None
    return fastgan.load(file, device=generator.device, precision=generator.precision)


def view(discriminator: Generator, images: torch.Tensor) -> torch.Tensor:
    """Its mean logit of each image, [N]: above 0 it takes more of it for the collection."""
    (logits,) = discriminator.run({"image": images}).values()
    return logits.cpu().float().mean(1)


@cache
def judge() -> nn.Module:
    """A classifier of patches: the collection above 0, photographs and anything else below.

    It must not go by colour: half of what it learns is no tissue has been given tissue's colours.
    """

    def network() -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels, width in ((3, 16), (16, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1))

    classifier, draw, count, steps = built(11, network), fixed(11), 16, 500
    optimizer = torch.optim.Adam(classifier.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    photos = named(JUDGES, least=style.SETTINGS["ship"].size)
    _, _, tissue, _ = style.data(style.SETTINGS["ship"], None)
    more = tuple(pixels(packaged(name).convert("RGB")) for name in _OTHERS)
    others = [Photographs((picture,), "") for picture in (*photos.pictures, *more)]
    target = torch.cat([torch.zeros(count, 1), torch.ones(count, 1)])
    for _ in range(steps):
        chosen = torch.randint(len(others), (count,), generator=draw).tolist()
        none = torch.cat([others[index].patches(1, _SIZE, draw) for index in chosen])
        real, coloured = (tissue.patches(count, _SIZE, draw) for _ in range(2))
        half = count // 2
        none = torch.cat([recoloured(none[:half], coloured[:half]), none[half:]])
        batch = torch.cat([none, real])
        batch = batch * (1 + 0.4 * (torch.rand(2 * count, 3, 1, 1, generator=draw) - 0.5))
        upright, mirrored = torch.randint(2, (2,), generator=draw).tolist()
        batch = batch if upright else batch.transpose(2, 3)
        batch = batch.flip(2) if mirrored else batch
        loss = functional.binary_cross_entropy_with_logits(classifier(batch), target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return classifier.eval()


def recoloured(images: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Images with the mean and the contrast, by channel, of others; both [N, C, H, W] in [-1, 1].

    Reinhard et al., "Color Transfer between Images" (2001), in RGB.
    """

    def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True) + 0.02

    (mean, contrast), (wanted, wanted_contrast) = moments(images), moments(like)
    return ((images - mean) / contrast * wanted_contrast + wanted).clamp(-1, 1)


@cache
def _held_out() -> tuple[torch.Tensor, torch.Tensor]:
    _, photos, _, tissue = style.data(style.SETTINGS["ship"], None)
    return photos.patches(_COUNT, _SIZE, fixed(5)), tissue.patches(_COUNT, _SIZE, fixed(6))


def picture(generator: Generator) -> Image.Image:
    """Held-out details and the same painted, then patches of what the style is of."""
    return grid(torch.cat(_shown(generator)), columns=6)


def picture_of_view(discriminator: Generator) -> Image.Image:
    """The same, and below each row what the discriminator takes for the collection, white."""
    path = discriminator.path
    assert path is not None
    painter = fastgan.load(path.with_name(f"{path.stem.removesuffix(_SUFFIX)}.onnx"))
    rows = []
    for images in _shown(painter):
        (logits,) = discriminator.run({"image": images}).values()
        side = images.shape[-1] // 8
        share = logits.cpu().float().sigmoid().view(-1, 1, side, side) * 2 - 1
        rows += [images, functional.interpolate(share, images.shape[-2:]).expand_as(images)]
    return grid(torch.cat(rows), columns=6)


def _shown(painter: Generator) -> list[torch.Tensor]:
    photos = pairs.details(6)
    _, _, tissue, _ = style.data(style.SETTINGS["ship"], None)
    return [photos, painter(photos).cpu(), tissue.patches(6, 128, fixed(6))]
