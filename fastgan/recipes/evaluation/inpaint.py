"""How close what fills a hole comes to what was there, beside biharmonic inpainting."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from PIL import Image

from fastgan.generator import Generator
from fastgan.recipes.damage import as_bytes
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.inpaint import holes
from fastgan.recipes.system import fixed

_SIZE = 64  # of a detail; a hole is up to 28 pixels wide


def figures(generator: Generator) -> dict[str, Figure]:
    """PSNR in the hole, and that of biharmonic inpainting, for both kinds of hole."""
    whole, masks, biharmonic = references()
    made = generator(_white(whole, masks), mask=masks).cpu()
    kinds = {"rectangles": slice(1, None, 2), "strokes": slice(0, None, 2), "all": slice(None)}
    found = {}
    for name, chosen in kinds.items():
        value, plain = (
            pairs.psnr(images[chosen], whole[chosen], masks[chosen])
            for images in (made, biharmonic)
        )
        found[name] = Figure(
            value,
            f"PSNR in the hole, {len(whole[chosen])} held-out details; scikit-image's biharmonic "
            "inpainting beside it",
            least=plain + (2 if name == "all" else 0),
            baseline=plain,
            unit="dB",
        )
    outside = (as_bytes(made) != as_bytes(whole)) & (masks.permute(0, 2, 3, 1).numpy() == 0)
    found["changed"] = Figure(
        float(outside.mean() * 100), "pixels outside the hole", most=0, unit="%"
    )
    return found


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
