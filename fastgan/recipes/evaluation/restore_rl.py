"""What policy gradient adds to the restoring model that it started from, on held-out details."""

from __future__ import annotations

from functools import cache

import torch
from PIL import Image

import fastgan
from fastgan.generator import Generator
from fastgan.recipes.denoise import Damage
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.denoise import DAMAGES
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.system import fixed

START = "denoise-photos"
_AHEAD = 0.05  # of its start, in dB


def figures(generator: Generator) -> dict[str, Figure]:
    """PSNR for damage as in training and for each kind alone, beside the model of the start."""
    whole = pairs.details()
    found = {}
    for name, start in before().items():
        found[name] = Figure(
            pairs.psnr(generator(_given(name)).cpu(), whole),
            f"PSNR of held-out details after {_WHAT.get(name, 'this alone')}; {START} beside it",
            least=round(start + _AHEAD, 2) if name == "PSNR" else None,
            baseline=start,
            unit="dB",
        )
    return found


_WHAT = {"PSNR": "damage as in training"}


@cache
def before() -> dict[str, float]:
    """The PSNR of the model that it started from, by damage."""
    start, whole = fastgan.load(START), pairs.details()
    names = ("PSNR", *DAMAGES)
    return {name: pairs.psnr(start(_given(name)).cpu(), whole) for name in names}


def _given(name: str) -> torch.Tensor:
    return DAMAGES.get(name, Damage())(pairs.details(), fixed(1))


def picture(generator: Generator) -> Image.Image:
    """Four held-out details: damaged, the model of the start, tuned, the photograph."""
    whole = pairs.details()[[1, 3, 4, 6]]
    given = Damage(share=0)(whole, fixed(3))
    rows = torch.stack([given, fastgan.load(START)(given).cpu(), generator(given).cpu(), whole], 1)
    return grid(rows.flatten(0, 1), columns=4)
