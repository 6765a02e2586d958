"""Which function judges which shipped model. A model that ships has a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from PIL import Image

from fastgan import models
from fastgan.errors import ArgumentError
from fastgan.generator import Generator
from fastgan.host.arguments import meant
from fastgan.recipes.evaluation import (
    autoencoders,
    denoise,
    digits,
    faces,
    inpaint,
    restore_rl,
    style,
    superres,
    textures,
    translate,
)
from fastgan.recipes.evaluation.figure import Figure

Figures = Callable[[Generator], dict[str, Figure]]
Picture = Callable[[Generator], Image.Image]

#: What `fastgan evaluate NAME`, or `--like NAME`, computes. The faces are of
#: recipes alone: their data states no licence, so none ships.
FIGURES: Mapping[str, Figures] = {
    "aae-digits": autoencoders.of_digits,
    "aae-digits-encoder": autoencoders.of_digits,
    "cgan-digits": digits.conditional,
    "dcgan-digits": digits.figures,
    "dcgan-faces": faces.figures,
    "texture-grass": partial(textures.figures, name="grass", shrink=1),
    "texture-gravel": partial(textures.figures, name="gravel"),
    "vae-digits": autoencoders.of_digits,
    "vae-digits-encoder": autoencoders.of_digits,
    "vae-faces": autoencoders.of_faces,
    "vae-faces-encoder": autoencoders.of_faces,
    "denoise-photos": denoise.figures,
    "inpaint-photos": inpaint.figures,
    "colour-tissue": partial(translate.figures, source="grey"),
    "edges-tissue": partial(translate.figures, source="edges"),
    "restore-photos": restore_rl.figures,
    "style-tissue": style.figures,
    "superres-x2": partial(superres.figures, gain=1.0),
    "superres-x4": superres.figures,
    "superres-x4-sharp": partial(superres.figures, gain=None),
}

#: What draws fastgan/models/NAME.png; `python -m fastgan.recipes.evaluation.draw NAME`.
PICTURES: Mapping[str, Picture] = {
    "aae-digits": autoencoders.picture_digits,
    "cgan-digits": digits.picture_conditional,
    "dcgan-digits": digits.picture,
    "texture-grass": textures.picture,
    "texture-gravel": textures.picture,
    "vae-digits": autoencoders.picture_digits,
    "denoise-photos": denoise.picture,
    "inpaint-photos": inpaint.picture,
    "colour-tissue": partial(translate.picture, source="grey"),
    "edges-tissue": partial(translate.picture, source="edges"),
    "restore-photos": restore_rl.picture,
    "style-tissue": style.picture,
    "style-tissue-discriminator": style.picture_of_view,
    "superres-x2": superres.picture,
    "superres-x4": superres.picture,
    "superres-x4-sharp": superres.picture,
}


def figures_of(name: str) -> Figures:
    """The function that judges the shipped model of this name.

    Raises:
        ArgumentError: there is none; the message lists those that there are.
    """
    if name not in FIGURES:
        where = "a shipped model without figures" if name in models.names() else "no shipped model"
        needed, near = ", ".join(sorted(FIGURES)), meant(name, FIGURES)
        raise ArgumentError("what to judge by", f"{name!r}: {where}", needed, near)
    return FIGURES[name]
