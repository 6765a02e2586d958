"""Whether painted photographs look like the collection, and are still what they were.

Two judges that the painter never met: a small classifier of both collections, trained here on what
the painter was trained on and checked on held-out patches, and SSIM of the luma.
"""

from __future__ import annotations

from functools import cache

import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from fastgan.generator import Generator
from fastgan.recipes import style
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.system import built, fixed
from fastgan.recipes.translate import grey

_SIZE, _COUNT = 64, 64


def figures(generator: Generator) -> dict[str, Figure]:
    """How many painted photographs the classifier takes for the collection, and their SSIM."""
    classifier = judge()
    photos, tissue = _held_out()
    with torch.no_grad():
        painted = generator(photos).cpu().clamp(-1, 1)
        right = (classifier(photos) < 0).float().mean() + (classifier(tissue) > 0).float().mean()
        taken, before = ((classifier(x) > 0).float().mean() for x in (painted, photos))
    of = f"of {len(photos)} held-out photographs"
    return {
        "classifier": Figure(
            float(right) * 50, "held-out patches of both collections told apart", least=80, unit="%"
        ),
        "style": Figure(
            float(taken) * 100,
            f"painted, {of}, taken for the collection; unpainted beside it",
            least=80,
            baseline=float(before) * 100,
            unit="%",
        ),
        "content": Figure(
            pairs.ssim(grey(painted).expand_as(photos), grey(photos).expand_as(photos)),
            f"SSIM of the luma {of}, painted and not; of patches of the collection beside it",
            least=0.5,
            baseline=pairs.ssim(grey(tissue).expand_as(photos), grey(photos).expand_as(photos)),
        ),
    }


@cache
def judge() -> nn.Module:
    """A classifier of patches: photographs below 0, the collection above."""

    def network() -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels, width in ((3, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1))

    classifier, draw = built(11, network), fixed(11)
    optimizer = torch.optim.Adam(classifier.parameters(), 2e-3)
    photos, _, tissue, _ = style.data(style.SETTINGS["ship"], None)
    target = torch.cat([torch.zeros(16, 1), torch.ones(16, 1)])
    for _ in range(150):
        batch = torch.cat([found.patches(16, _SIZE, draw) for found in (photos, tissue)])
        tint = 1 + 0.4 * (torch.rand(32, 3, 1, 1, generator=draw) - 0.5)  # not by colour alone
        loss = functional.binary_cross_entropy_with_logits(classifier(batch * tint), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier.eval()


@cache
def _held_out() -> tuple[torch.Tensor, torch.Tensor]:
    _, photos, _, tissue = style.data(style.SETTINGS["ship"], None)
    return photos.patches(_COUNT, _SIZE, fixed(5)), tissue.patches(_COUNT, _SIZE, fixed(6))


def picture(generator: Generator) -> Image.Image:
    """Held-out details and the same painted, then patches of the collection."""
    photos = pairs.details(6)
    _, _, _, tissue = style.data(style.SETTINGS["ship"], None)
    shown = [photos, generator(photos).cpu(), tissue.patches(6, 128, fixed(6))]
    return grid(torch.cat(shown), columns=6)
