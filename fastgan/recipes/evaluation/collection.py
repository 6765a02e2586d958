"""Any generator, judged by a folder of real images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastgan.errors import ArgumentError
from fastgan.generator import Generator
from fastgan.recipes import images
from fastgan.recipes.evaluation import distances
from fastgan.recipes.evaluation.figure import Figure


def against(
    folder: Path, count: int = 2000, inception: Path | None = None
) -> Callable[[Generator], dict[str, Figure]]:
    """What measures how far `count` samples of a generator are from the images in `folder`.

    They are cropped to squares and brought to the size of the samples.

    Args:
        inception: Inception's weights, for the FID and KID of the field beside our own distances.

    Raises:
        ArgumentError: fewer than two samples; or the folder holds no image, or one that can't be
            read.
    """
    if count < 2:
        raise ArgumentError("--n", str(count), "at least 2")
    images.files(folder)

    def figures(generator: Generator) -> dict[str, Figure]:
        low, high = generator.signature.outputs[0].range
        samples = generator.generate(count, seed=0).cpu().sub(low).mul(2 / (high - low)).sub(1)
        channels, height, width = samples.shape[1:]
        if height != width or height < 32 or channels not in (1, 3):
            shape = f"images of {channels} channels, {height}x{width}"
            raise ArgumentError("--data", shape, "grey or colour, square, of at least 32x32")
        real = images.folder(folder, height, channels)
        found = distances.figures(samples, real)
        if inception is not None:
            found |= distances.inception(samples, real, inception)
        return found

    return figures
