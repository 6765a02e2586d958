"""How close a translated picture comes to the original, beside what a mean colour comes to.

For grey pictures the baseline is the picture itself, tinted with the mean colour of what was
trained on; for drawings it is that colour alone.
"""

from __future__ import annotations

import torch
from PIL import Image

from fastgan.generator import Generator
from fastgan.recipes import translate
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.photographs import collection, to_float
from fastgan.recipes.system import fixed


def tissue() -> torch.Tensor:
    """The same held-out details of stained tissue each time, [8, 3, 96, 96] in [-1, 1]."""
    return collection("histology", "test", 1).patches(8, 96, fixed(7), turn=False)


def tinted(whole: torch.Tensor) -> torch.Tensor:
    """The luma of tissue, in the mean colour of what was trained on."""
    colour = mean_colour("histology")
    return translate.grey(whole) + colour - translate.grey(colour)


def _material(source: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tissue, the pictures that are made of it ("grey", "edges"), and what is beside the model."""
    whole = tissue()
    plain = tinted(whole) if source == "grey" else mean_colour("histology").expand_as(whole)
    return whole, translate.SOURCES[source](whole), plain


def figures(generator: Generator, source: str) -> dict[str, Figure]:
    """L1 and SSIM of stained tissue that was "grey", or drawn by its "edges"."""
    whole, picture, plain = _material(source)
    made = generator(picture).cpu()
    l1, plain_l1 = (pairs.distance(images, whole) for images in (made, plain))
    ssim, plain_ssim = (pairs.ssim(images, whole) for images in (made, plain))
    of = f"of {len(whole)} held-out details; that of a mean colour beside it"
    return {
        "L1": Figure(l1, f"mean difference in 255 {of}", most=plain_l1, baseline=plain_l1),
        "SSIM": Figure(ssim, f"structural similarity {of}", least=plain_ssim, baseline=plain_ssim),
    }


def mean_colour(name: str) -> torch.Tensor:
    """That of what was trained on in a collection, [1, 3, 1, 1] in [-1, 1]."""
    found = translate.in_colour(collection(name, "train", 1)).pictures
    return torch.stack([to_float(p).mean((1, 2)) for p in found]).mean(0)[None, :, None, None]


def picture(generator: Generator, source: str) -> Image.Image:
    """Held-out details of tissue, each: what is given, a mean colour, the model, the tissue."""
    whole, given, plain = _material(source)
    rows = torch.stack([given.expand_as(whole), plain, generator(given).cpu(), whole], 1)
    return grid(rows.flatten(0, 1), columns=8)
