"""Restoration of photographs with holes: scratches, stains, whatever stands in the way.

The hole is first filled smoothly from what surrounds it, coarse to fine, much as biharmonic
inpainting does; the network adds what that leaves out. What is known passes through untouched.

Adversarial and reconstruction loss: Pathak et al., "Context Encoders: Feature Learning by
Inpainting" (2016). Coarse to fine: Gortler et al., "The Lumigraph" (1996), section 3.4. The
equation: Damelin and Hoang, "On Surface Completion and Image Inpainting by Biharmonic Functions"
(2018). Relaxations: Golub and Varga, "Chebyshev Semi-Iterative Methods, Successive Overrelaxation
Iterative Methods, and Second Order Richardson Iterative Methods" (1961); Lebedev and Finogenov,
"Ordering of the Iterative Parameters in the Cyclical Chebyshev Iterative Method" (1971).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from fastgan.exporting import export
from fastgan.model.signature import Input
from fastgan.recipes import restoration
from fastgan.recipes.networks import UNet
from fastgan.recipes.photographs import Photographs
from fastgan.recipes.restoration import Restoration, UNetSettings

NAME = "inpaint"
_LEVELS = 5  # the smooth filling's: holes up to 2 ** _LEVELS across are always seen around
_CYCLES, _STEPS = 4, 4  # of relaxations, per level: longer cycles would not bear bfloat16
#: Eigenvalues of the equation that the relaxations are for: the largest there is, and one so small
#: that what is left of it comes from the level above.
_EIGENVALUES = (0.1, 3.2)
#: What a pixel is where the biharmonic equation holds, by those around it; times 20.
_BIHARMONIC = (
    (0.0, 0.0, -1.0, 0.0, 0.0),
    (0.0, -2.0, 8.0, -2.0, 0.0),
    (-1.0, 8.0, 0.0, 8.0, -1.0),
    (0.0, -2.0, 8.0, -2.0, 0.0),
    (0.0, 0.0, -1.0, 0.0, 0.0),
)


SETTINGS = {
    "ship": replace(restoration.SHIP, steps=6000),
    "full": restoration.FULL,
    "quick": UNetSettings(
        steps=30, batch=4, lr=1e-3, adversarial=0.01, warm=10, width=8, average=0.9
    ),
}

data = restoration.data


class Inpainter(nn.Module):
    """Images [N, 3, H, W] in [-1, 1] and masks [N, 1, H, W], 1 where the image is missing.

    H and W are multiples of 32. The result is the image, whole; under the mask nothing is read.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = width * 3 // 2
        self.network = UNet(4, 3, (width, wide, wide, wide))

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.finished(self.begun(image, mask), mask)

    @staticmethod
    def begun(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The image, its holes smoothly filled."""
        known = image * (1 - mask)
        return known + mask * smoothly_filled(known, 1 - mask)

    def finished(self, smooth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The image with what the network adds to the smooth filling."""
        return smooth + mask * self.network(torch.cat([smooth, mask], 1))


@torch.no_grad()
def smoothly_filled(known: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A smooth image through what is known, which is 0 elsewhere; `weight` is 1 where it is known.

    Each level is the mean of what is known of the four pixels below. On the way back, what is not
    known there comes from the level above, and is relaxed towards the biharmonic equation.
    """
    levels = [(known, weight)]
    for _ in range(_LEVELS):
        known, weight = (functional.avg_pool2d(part, 2) for part in levels[-1])
        levels.append((known, weight))
    known, weight = levels.pop()
    filled = known / weight.clamp(min=1e-3)
    around = torch.tensor(_BIHARMONIC, device=known.device) / 20
    itself = torch.zeros_like(around)
    itself[2, 2] = 1
    channels = known.shape[1]
    kernels = [
        (itself + size * (around - itself)).expand(channels, 1, 5, 5) for size in step_sizes()
    ]
    for known, weight in reversed(levels):
        filled = functional.interpolate(
            filled, scale_factor=2.0, mode="bilinear", align_corners=False
        )
        for kernel in kernels:
            padded = functional.pad(known + (1 - weight) * filled, [2] * 4, mode="replicate")
            filled = functional.conv2d(padded, kernel, groups=channels)
    return filled


def step_sizes() -> list[float]:
    """Of the relaxations of a level: cycles of a Chebyshev iteration, each step another size.

    In the order of Lebedev and Finogenov, large and small in turn, so that rounding can't grow.
    """
    low, high = _EIGENVALUES
    order = [0]
    while len(order) < _STEPS:
        order = [x for place in order for x in (place, 2 * len(order) - 1 - place)]
    roots = [math.cos(math.pi * (2 * place + 1) / (2 * _STEPS)) for place in order]
    return [2 / (high + low - (high - low) * root) for root in roots] * _CYCLES


def holes(count: int, size: int, draw: torch.Generator) -> torch.Tensor:
    """Masks [count, 1, size, size], 1 in the hole: half rectangles, half strokes of a thick pen."""
    masks = torch.zeros(count, 1, size, size)
    axis = torch.arange(float(size))
    for index in range(count):
        if index % 2:
            height, width = torch.randint(size // 8, size * 7 // 16, (2,), generator=draw).tolist()
            top = int(torch.randint(size - height, (), generator=draw))
            left = int(torch.randint(size - width, (), generator=draw))
            masks[index, :, top : top + height, left : left + width] = 1
            continue
        for _ in range(3):
            ends = torch.rand(2, 2, generator=draw) * size
            along = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, size)[:, None]  # [size, 2]
            radius = 1 + float(torch.rand((), generator=draw)) * size / 16
            rows = (axis - along[:, :1]).square()  # [size, H]
            columns = (axis - along[:, 1:]).square()  # [size, W]
            near = (rows[:, :, None] + columns[:, None]).amin(0) <= radius**2
            masks[index, 0, near] = 1
    return masks


def with_holes(whole: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Images with one set of holes or two, white there, and the mask as a fourth channel."""
    first, second = (holes(len(whole), whole.shape[-1], draw) for _ in range(2))
    twice = torch.rand(len(whole), 1, 1, 1, generator=draw) < 0.5
    mask = torch.maximum(first, twice * second.flip(0))
    return torch.cat([whole * (1 - mask) + mask, mask], 1)


class Inpaint(Restoration):
    """`Restoration` of what lies under a mask."""

    def restored(self, network: nn.Module, given: torch.Tensor) -> torch.Tensor:
        assert isinstance(network, Inpainter)
        mask = given[:, 3:]
        with torch.autocast(self.device.type, enabled=False):  # what it starts from is exact
            smooth = network.begun(given[:, :3], mask)
        return network.finished(smooth, mask)

    def export(self, path: Path) -> None:
        """Write the finished generator as ONNX: an image and a mask in, an image out."""
        size = ("height", "width")
        image = Input("image", "image", ("batch", 3, *size), range=(-1, 1))
        mask = Input("mask", "mask", ("batch", 1, *size), range=(0, 1), fill="white")
        export(self.finished(), path, inputs=[image, mask], range=(-1, 1))


def build(settings: UNetSettings, found: tuple[Photographs, Photographs]) -> Inpaint:
    """The recipe on these photographs, to train with and held out."""
    return Inpaint(NAME, settings, lambda: Inpainter(settings.width), with_holes, found)
