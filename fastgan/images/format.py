"""How images are wanted of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """Which output is wanted as images, and how.

    Attributes:
        name: the output's name.
        format: "float32" for NCHW in the model's own range, "uint8" for NHWC in 0..255.
        range: the output values that stand for black and white.
        mean, std: where each channel has constants of its own, as in `signature.Output`.
    """

    name: str
    format: str
    range: tuple[float, float]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def asked(self) -> ImageFormat:
        """What an executable is asked for: floats, where bytes are of constants for each channel.

        No kernel writes those; `images.store` makes them.
        """
        return replace(self, format="float32") if self.mean else self


def as_asked(made: Tensor, image: ImageFormat) -> Tensor:
    """An output as `Executable.images` returns it: pixels of a model that makes uint8 as NHWC."""
    pixels = image.format == "uint8" and made.dtype == torch.uint8 and made.dim() == 4
    return made.permute(0, 2, 3, 1) if pixels else made
