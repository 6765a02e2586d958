"""Generated textures: whether they tile without a seam, how large they get, how real they are."""

from __future__ import annotations

import torch
from PIL import Image

from fastgan.generator import Generator
from fastgan.recipes import images, photographs
from fastgan.recipes.evaluation import distances
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.texture import PIXELS


def figures(generator: Generator, name: str, shrink: int = 2) -> dict[str, Figure]:
    """Of a generator of the texture of this name, `shrink` times smaller, from normal numbers."""
    made = sample(generator, 48, 16, 16)
    across, within = _gradients(made)
    large = sample(generator, 1, 2048 // PIXELS, 2048 // PIXELS, seed=1)
    side = min(large.shape[2:])
    real = {
        split: photographs.texture(name, split, shrink).pictures[0][None]
        for split in ("train", "test")
    }
    held_out, known = (photographs.to_float(real[split]) for split in ("test", "train"))
    return {
        "seam": Figure(
            across / within,
            "mean gradient across the edges of a tile beside its copy, by that within a tile",
            least=0.9,
            most=1.1,
            baseline=_ratio(held_out),
        ),
        "side": Figure(
            float(side) if bool(large.isfinite().all()) else 0.0,
            "of the image that one call made",
            least=2048,
            unit="pixels",
        ),
        "contrast": Figure(
            (made.std() / held_out.std()).item(),
            "standard deviation of its pixels, by that of the held-out texture",
            least=0.7,
            most=1.3,
            baseline=(known.std() / held_out.std()).item(),
        ),
        "sharpness": Figure(
            within / _gradients(held_out)[1],
            "mean gradient within a tile, by that of the held-out texture",
            least=0.7,
            most=1.3,
            baseline=_gradients(known)[1] / _gradients(held_out)[1],
        ),
        **distances.figures(made, held_out, known),
    }


def sample(generator: Generator, n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Images [n, C, 8 height, 8 width] of normal fields, in one call, on the CPU."""
    (port,) = generator.signature.inputs
    depth = port.shape[1]
    assert isinstance(depth, int)
    draw = torch.Generator().manual_seed(seed)
    field = torch.randn(n, depth, height, width, generator=draw)
    (made,) = generator.run({port.name: field}).values()
    return made.cpu()


def picture(generator: Generator) -> Image.Image:
    """One tile of 256x256, laid four times: the seams are where nobody sees them."""
    tile = sample(generator, 1, 32, 32)
    return images.grid(tile.repeat(1, 1, 2, 2), columns=1, gap=0)


def _gradients(tiles: torch.Tensor) -> tuple[float, float]:
    """Mean absolute difference of neighbours across opposite edges, and of all others."""
    across, within = [], []
    for axis in (2, 3):
        length = tiles.shape[axis]
        first, last = tiles.narrow(axis, 0, 1), tiles.narrow(axis, length - 1, 1)
        across.append((first - last).abs().mean().item())
        within.append(tiles.diff(dim=axis).abs().mean().item())
    return sum(across) / 2, sum(within) / 2


def _ratio(tiles: torch.Tensor) -> float:
    across, within = _gradients(tiles)
    return across / within
