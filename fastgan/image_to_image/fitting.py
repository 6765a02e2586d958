"""Which image sizes a model takes, found by trying a few small ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from fastgan.plan import Plan
from fastgan.tiling import Scale

#: Sizes at which nearly every network runs that runs at more than one.
_BASES = (64, 128, 256, 512)
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)

#: From (H, W) of the image to (H, W) of the result, or None where the model fails.
Probe = Callable[[int, int], tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class Fit:
    """What images a model takes, and how large its results are.

    Attributes:
        fixed: the only height and width that it takes, where there is one.
        multiple: what an open height and width must be a multiple of.
        minimum: the smallest open height and width, a multiple of `multiple`.
        scale: size of the result by size of the image; None where the two are not proportional.
    """

    fixed: tuple[int | None, int | None]
    multiple: int = 1
    minimum: int = 1
    scale: Scale | None = None


def find(declared: tuple[int | None, int | None], probe: Probe) -> Fit:
    """How images must be shaped for a model.

    A size that is a multiple of m and of no higher power of two is tried for m = 1, 2, 4, ... 64:
    the first that runs, and gives a result in proportion, tells the multiple. Small sizes are tried
    in the same way for the minimum.

    Args:
        declared: the height and width that the model's input states; None where open.
        probe: runs the model at a size.
    """

    def at(size: int) -> tuple[int, int]:
        height, width = declared
        return height or size, width or size

    for base in _BASES:
        result = probe(*at(base))
        if result is not None:
            break
    else:
        return Fit(declared)
    (height, width), scale = at(base), _scale(at(base), result)
    if None not in declared:
        return Fit(declared, scale=scale)

    def fits(size: int) -> bool:
        found = probe(*at(size))
        return found is not None and _scale(at(size), found) == scale

    multiple = next((m for m in _MULTIPLES if fits(base + m)), None)
    if multiple is None:
        # In truth it runs at one size, or its result is smaller by a fixed border.
        alone = all(probe(*at(base + m)) is None for m in (1, 2, 64))
        return Fit((height, width), scale=scale) if alone else Fit(declared)
    minimum = multiple
    while minimum < base and not fits(minimum):
        minimum *= 2
    return Fit(declared, multiple, minimum, scale)


def _scale(image: tuple[int, int], result: tuple[int, int]) -> Scale:
    return Fraction(result[0], image[0]), Fraction(result[1], image[1])


def activation_bytes(plan: Plan) -> int:
    """The most bytes that a plan's buffers take at any time, in the types that it was made in."""
    live = sum(plan.buffers[name].bytes for name in plan.inputs)
    most = live
    for step in plan.steps:
        live += sum(plan.buffers[name].bytes for name in step.outputs if name in plan.buffers)
        most = max(most, live)
        live -= sum(plan.buffers[name].bytes for name in step.releases)
    return most
