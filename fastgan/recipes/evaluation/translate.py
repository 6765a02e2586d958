"""How close a translated picture comes to the photograph, beside what a mean colour comes to.

For grey pictures the baseline is the picture itself, tinted with the mean colour of the photographs
that were trained on; for drawings it is that colour alone.
"""

from __future__ import annotations

import torch
from PIL import Image

from fastgan.generator import Generator
from fastgan.recipes import translate
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.photographs import photographs, to_float


def grey(generator: Generator) -> dict[str, Figure]:
    """L1 and SSIM of what was grey."""
    whole = pairs.details()
    picture = translate.grey(whole)
    colour = mean_colour()
    return _figures(generator, whole, picture, picture + colour - translate.grey(colour))


def edges(generator: Generator) -> dict[str, Figure]:
    """L1 and SSIM of what was drawn."""
    whole = pairs.details()
    return _figures(generator, whole, translate.edges(whole), mean_colour().expand_as(whole))


def _figures(
    generator: Generator, whole: torch.Tensor, picture: torch.Tensor, plain: torch.Tensor
) -> dict[str, Figure]:
    made = generator(picture).cpu()
    l1, plain_l1 = (pairs.distance(images, whole) for images in (made, plain))
    ssim, plain_ssim = (pairs.ssim(images, whole) for images in (made, plain))
    of = f"of {len(whole)} held-out details; that of a mean colour beside it"
    return {
        "L1": Figure(l1, f"mean difference in 255 {of}", most=plain_l1, baseline=plain_l1),
        "SSIM": Figure(ssim, f"structural similarity {of}", least=plain_ssim, baseline=plain_ssim),
    }


def mean_colour() -> torch.Tensor:
    """That of the photographs in colour that were trained on, [1, 3, 1, 1] in [-1, 1]."""
    found = translate.in_colour(photographs("train")).pictures
    return torch.stack([to_float(p).mean((1, 2)) for p in found]).mean(0)[None, :, None, None]


def picture_grey(generator: Generator) -> Image.Image:
    """Held-out details, each: grey, tinted, the model, the photograph."""
    whole = pairs.details()
    grey = translate.grey(whole)
    colour = mean_colour()
    tinted = grey + colour - translate.grey(colour)
    return _picture(generator, whole, grey, tinted)


def picture_edges(generator: Generator) -> Image.Image:
    """Held-out details, each: the drawing, a mean colour, the model, the photograph."""
    whole = pairs.details()
    return _picture(generator, whole, translate.edges(whole), mean_colour().expand_as(whole))


def _picture(
    generator: Generator, whole: torch.Tensor, picture: torch.Tensor, plain: torch.Tensor
) -> Image.Image:
    given = picture.expand_as(whole)
    rows = torch.stack([given, plain, generator(picture).cpu(), whole], 1)
    return grid(rows.flatten(0, 1), columns=8)
