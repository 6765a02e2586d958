"""How close an upscaler comes to photographs that it never saw, beside bicubic interpolation.

One that was trained against a discriminator is to look sharp, which moves it away from the closest
image. So its sharpness is measured, which needs no reference.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from fastgan.errors import ArgumentError
from fastgan.generator import Generator
from fastgan.recipes.denoise import as_bytes
from fastgan.recipes.evaluation import pairs
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.images import grid
from fastgan.recipes.photographs import photographs, to_float
from fastgan.recipes.superres import shrink

_DETAILS = ((1, 60, 110), (1, 110, 190), (0, 60, 230), (0, 230, 120))  # photograph, top, left
_SIDE = 96


def figures(generator: Generator, gain: float | None = 0.0) -> dict[str, Figure]:
    """PSNR and SSIM over the whole held-out photographs, beside bicubic interpolation's.

    Args:
        gain: by how many dB it is to be closer; None where it is to be sharp instead, its blur less
            than that of bicubic interpolation.
    """
    rows = []
    for whole, plain, made in _upscaled(generator):
        row = [measure(x, whole) for measure in (pairs.psnr, pairs.ssim) for x in (made, plain)]
        rows.append([*row, *(_blur(x) for x in (made, plain, whole))])
    psnr, plain_psnr, ssim, plain_ssim, blur, plain_blur, real_blur = np.mean(rows, 0).tolist()
    of = "over the whole held-out photographs; bicubic interpolation beside it"
    found = {
        "PSNR": Figure(
            psnr,
            f"peak signal to noise ratio {of}",
            least=None if gain is None else plain_psnr + gain,
            baseline=plain_psnr,
            unit="dB",
        ),
        "SSIM": Figure(
            ssim,
            f"structural similarity {of}",
            least=None if gain is None else plain_ssim,
            baseline=plain_ssim,
        ),
    }
    if gain is None:
        what = f"Crete's blur, 0 to 1, of no reference; the photographs themselves: {real_blur:.3f}"
        found["blur"] = Figure(
            blur, f"{what}; bicubic beside it", most=plain_blur, baseline=plain_blur
        )
    return found


def _upscaled(generator: Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Each held-out photograph, and made small and large again: bicubic, and by the model."""
    scale = _scale(generator)
    for picture in photographs("test").pictures:
        height, width = (length // scale * scale for length in picture.shape[1:])
        whole = to_float(picture[None, :, :height, :width])
        small = shrink(whole, scale)
        plain = functional.interpolate(small, scale_factor=float(scale), mode="bicubic")
        yield whole, plain, generator(small).cpu()


def _blur(image: torch.Tensor) -> float:
    """Crete et al., "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual
    Blur Metric" (2007), as scikit-image has it: 0 is sharp."""
    from skimage.measure import blur_effect

    return float(blur_effect(as_bytes(image)[0], channel_axis=2))


def picture(generator: Generator) -> Image.Image:
    """Four details of held-out photographs, each: bicubic, the model, the photograph."""
    scale, found, shown = _scale(generator), photographs("test").pictures, []
    for index, top, left in _DETAILS:
        cut = to_float(found[index][None, :, top : top + _SIDE, left : left + _SIDE])
        small = shrink(cut, scale)
        plain = functional.interpolate(small, scale_factor=float(scale), mode="bicubic")
        shown += [plain, generator(small).cpu(), cut]
    return grid(torch.cat(shown), columns=6, scale=2)


def _scale(generator: Generator) -> int:
    scale = generator.scale
    if scale is None or scale[0] != scale[1] or scale[0] != int(scale[0]) or scale[0] < 2:
        raise ArgumentError("the model", f"a scale of {scale}", "an upscaler, x2 or x4")
    return int(scale[0])
