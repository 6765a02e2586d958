"""How good an upscaler is on photographs that it never saw, beside bicubic interpolation.

    python -m fastgan.recipes.superres_evaluation superres-x2 [PICTURE.png]

The model file is run as its users run it: `fastgan.load`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

import fastgan
from fastgan.errors import ArgumentError
from fastgan.recipes.images import grid
from fastgan.recipes.photographs import photographs, to_float
from fastgan.recipes.superres import shrink


@dataclass(frozen=True, slots=True)
class Figures:
    """PSNR in dB and SSIM over whole colour images in 8 bits, means over the photographs."""

    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float

    def __str__(self) -> str:
        return (
            f"the model   PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.4f}\n"
            f"bicubic     PSNR {self.bicubic_psnr:.2f} dB, SSIM {self.bicubic_ssim:.4f}"
        )


def judge(source: str, precision: str = "fp32") -> Figures:
    """The figures of a shipped model, by name, or of a model file, on the held-out photographs.

    Raises:
        ArgumentError: the model does not enlarge by one whole number.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    generator = fastgan.load(source, precision=precision)
    scale = _scale(generator)
    rows = []
    for picture in photographs("test").pictures:
        height, width = (length // scale * scale for length in picture.shape[1:])
        whole = to_float(picture[None, :, :height, :width])
        small = shrink(whole, scale)
        plain = functional.interpolate(small, scale_factor=float(scale), mode="bicubic")
        truth = _bytes(whole)
        row = []
        for made in (_bytes(generator(small)), _bytes(plain)):
            row.append(peak_signal_noise_ratio(truth, made))
            row.append(structural_similarity(truth, made, channel_axis=2))
        rows.append(row)
    return Figures(*np.mean(rows, axis=0).tolist())


def picture(source: str, path: str) -> None:
    """Four details of held-out photographs, each: bicubic, the model, the photograph."""
    generator = fastgan.load(source)
    scale, side = _scale(generator), 96
    shown = []
    coffee, chelsea = photographs("test").pictures
    for whole, top, left in (
        (chelsea, 60, 110),
        (chelsea, 110, 190),
        (coffee, 60, 230),
        (coffee, 230, 120),
    ):
        cut = to_float(whole[None, :, top : top + side, left : left + side])
        small = shrink(cut, scale)
        plain = functional.interpolate(small, scale_factor=float(scale), mode="bicubic")
        shown += [plain, generator(small).cpu(), cut]
    grid(torch.cat(shown), columns=6, scale=2).save(path)


def _scale(generator: fastgan.Generator) -> int:
    scale = generator.scale
    if scale is None or scale[0] != scale[1] or scale[0] != int(scale[0]) or scale[0] < 2:
        raise ArgumentError("the model", f"a scale of {scale}", "an upscaler, x2 or x4")
    return int(scale[0])


def _bytes(images: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = images[0].float().cpu().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).numpy()


def main(source: str = "superres-x2", path: str = "") -> None:
    """Print the figures; draw a picture where a path is given."""
    print(judge(source))
    if path:
        picture(source, path)


if __name__ == "__main__":
    main(*sys.argv[1:3])
