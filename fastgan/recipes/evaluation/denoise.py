"""How well noise, blur and JPEG damage are undone, beside non-local means and the bilateral filter.

Both come from scikit-image and are told what a network has to find out: they run at five strengths,
and the best for each kind of damage counts.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from PIL import Image

from fastgan.generator import Generator
from fastgan.recipes.denoise import Damage, as_bytes
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.system import fixed

_STRENGTHS = (0.02, 0.05, 0.1, 0.15, 0.25)  # of images in [0, 1]
_NONE = (0.0, 0.0)
DAMAGES = {
    "noise": Damage(_NONE, (25, 25), _NONE, share=0),
    "blur": Damage((1.2, 1.2), _NONE, _NONE, share=0),
    "JPEG": Damage(_NONE, _NONE, (20, 20), share=0),
    "all three": Damage((0.8, 0.8), (15, 15), (40, 40), share=0),
}
_WHAT = {
    "noise": "noise of 25 in 255",
    "blur": "a Gaussian of 1.2 pixels",
    "JPEG": "a JPEG file of quality 20",
    "all three": "a Gaussian of 0.8, noise of 15, quality 40",
}


def figures(generator: Generator) -> dict[str, Figure]:
    """PSNR for each kind of damage; the best of both filters, or of none, is to be surpassed."""
    whole = pairs.details()
    found = {}
    for name, damage in DAMAGES.items():
        references = filtered(name)
        beside = ", ".join(f"{method} {value:.2f}" for method, value in references.items())
        found[name] = Figure(
            pairs.psnr(generator(damage(whole, fixed(1))).cpu(), whole),
            f"PSNR of held-out details after {_WHAT[name]}; {beside}",
            least=max(references.values()),
            baseline=max(references.values()),
            unit="dB",
        )
    return found


@cache
def filtered(name: str) -> dict[str, float]:
    """The PSNR of each filter at its best strength, for damage of this name; and of none."""
    whole = pairs.details()
    given = DAMAGES[name](whole, fixed(1))
    found = {
        method: max(pairs.psnr(apply(given, strength), whole) for strength in _STRENGTHS)
        for method, apply in FILTERS.items()
    }
    return {**found, "untouched": pairs.psnr(given, whole)}


def non_local_means(given: torch.Tensor, strength: float) -> torch.Tensor:
    """scikit-image's non-local means (Buades et al., 2005), of images in [-1, 1]."""
    from skimage.restoration import denoise_nl_means

    made = [
        denoise_nl_means(
            image / 255, 5, 6, h=0.8 * strength, sigma=strength, fast_mode=True, channel_axis=2
        )
        for image in as_bytes(given)
    ]
    return _tensor(made)


def bilateral(given: torch.Tensor, strength: float) -> torch.Tensor:
    """scikit-image's bilateral filter (Tomasi and Manduchi, 1998), of images in [-1, 1]."""
    from skimage.restoration import denoise_bilateral

    made = [
        denoise_bilateral(image / 255, 7, sigma_color=2 * strength, sigma_spatial=2, channel_axis=2)
        for image in as_bytes(given)
    ]
    return _tensor(made)


FILTERS = {"non-local means": non_local_means, "bilateral": bilateral}


def picture(generator: Generator) -> Image.Image:
    """Four held-out details: damaged, non-local means, the model, the photograph."""
    whole = pairs.details()[[1, 3, 4, 6]]
    rows = []
    for image, damage in zip(whole, DAMAGES.values(), strict=True):
        given = damage(image[None], fixed(2))
        by_filter = max(
            (non_local_means(given, strength) for strength in _STRENGTHS),
            key=lambda made: pairs.psnr(made, image[None]),
        )
        rows += [given, by_filter, generator(given).cpu(), image[None]]
    return grid(torch.cat(rows), columns=4)


def _tensor(images: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() * 2 - 1
