"""How close what fills a hole comes to what was there, beside biharmonic inpainting."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from PIL import Image

from fastgan.generator import Generator
from fastgan.recipes.denoise import as_bytes
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.inpaint import holes
from fastgan.recipes.system import fixed

_SIZE = 64  # of a detail; a hole is up to 28 pixels wide
#: How far above biharmonic inpainting it must be, in dB.
_AHEAD = {"holes": 0.7, "strokes": 1.0, "rectangles": 0.4, "together": 1.1}


def figures(generator: Generator) -> dict[str, Figure]:
    """PSNR in the hole for both kinds of hole, and over all of them; biharmonic beside it."""
    whole, masks, plain = references()
    made = generator(_white(whole, masks), mask=masks).cpu()
    kinds = {"holes": slice(None), "strokes": slice(0, None, 2), "rectangles": slice(1, None, 2)}
    found = {}
    for name, chosen in kinds.items():
        value, baseline = (
            pairs.psnr(images[chosen], whole[chosen], masks[chosen]) for images in (made, plain)
        )
        what = f"PSNR in the hole, mean over {len(whole[chosen])} held-out details; biharmonic"
        found[name] = _ahead(name, value, f"{what} beside it", baseline)
    value, baseline = (_pooled(images, whole, masks) for images in (made, plain))
    what = "PSNR of the mean squared error of all pixels in the holes; biharmonic beside it"
    found["together"] = _ahead("together", value, what, baseline)
    outside = (as_bytes(made) != as_bytes(whole)) & (masks.permute(0, 2, 3, 1).numpy() == 0)
    share = float(outside.mean() * 100)
    found["changed"] = Figure(share, "pixels outside the hole", most=0, unit="%")
    return found


def _ahead(name: str, value: float, what: str, baseline: float) -> Figure:
    least = round(baseline + _AHEAD[name], 2)
    return Figure(value, what, least, baseline=baseline, unit="dB")


def _pooled(images: torch.Tensor, whole: torch.Tensor, masks: torch.Tensor) -> float:
    error = np.square(as_bytes(images).astype(np.float64) - as_bytes(whole)).mean(-1)  # [N, H, W]
    inside = masks[:, 0].numpy()
    return float(10 * np.log10(255**2 * inside.sum() / (error * inside).sum()))


@cache
def references() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Held-out details, masks, and what biharmonic inpainting makes of them."""
    whole = pairs.details(32, _SIZE)
    masks = holes(len(whole), _SIZE, fixed(3))
    return whole, masks, biharmonic(whole, masks)


def biharmonic(whole: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """scikit-image's (Damelin and Hoang, 2018), in colour; nothing is read under the mask."""
    from skimage.restoration import inpaint_biharmonic

    made = [
        inpaint_biharmonic(image / 255, mask, channel_axis=2)
        for image, mask in zip(as_bytes(_white(whole, masks)), masks[:, 0].numpy() > 0, strict=True)
    ]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() * 2 - 1


def picture(generator: Generator) -> Image.Image:
    """Held-out details, each: with a hole, biharmonic inpainting, the model, the photograph."""
    whole, masks, plain = (found[:8] for found in references())
    given = _white(whole, masks)
    rows = torch.stack([given, plain, generator(given, mask=masks).cpu(), whole], 1)
    return grid(rows.flatten(0, 1), columns=8, scale=2)


def _white(whole: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return whole * (1 - masks) + masks
