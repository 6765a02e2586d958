"""What people type for seeds, grids and sizes: "0-63", "1,2,5-9", "8x8", "1024x512"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, pairwise

from fastgan.errors import ArgumentError

LARGEST_SEED = 2**64 - 1

#: A grid is one picture in memory; this many cells of 64x64 in colour are 12 GB.
LARGEST_GRID = 1_000_000


class Seeds:
    """Seeds in the order in which they were named, each once; ranges are not expanded.

    Args:
        text: numbers and ranges with both ends in them, as StyleGAN's tools take them.

    Raises:
        ArgumentError: anything else, a range that runs backwards, a seed named twice.
    """

    def __init__(self, text: str) -> None:
        self.ranges = [_range(part.strip(), text) for part in text.split(",")]
        ordered = sorted(self.ranges, key=lambda r: r.start)
        for before, after in pairwise(ordered):
            if after.start < before.stop:
                raise ArgumentError("--seeds", f"{after.start} twice in {text!r}", "each seed once")

    @property
    def count(self) -> int:
        """How many; it may be more than `len` could say."""
        return sum(r.stop - r.start for r in self.ranges)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)


def _range(part: str, text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", part, re.ASCII)
    if match is None:
        raise ArgumentError("--seeds", repr(text), "numbers and ranges, such as 0-63 or 1,2,5-9")
    if max(len(digits) for digits in match.groups() if digits) > 20:
        raise ArgumentError("--seeds", f"{part[:24]}...", f"seeds from 0 to {LARGEST_SEED}")
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last > LARGEST_SEED:
        raise ArgumentError("--seeds", str(last), f"seeds from 0 to {LARGEST_SEED}")
    if last < first:
        raise ArgumentError("--seeds", repr(part), f"a range that ends after {first}")
    return range(first, last + 1)


def grid(text: str) -> tuple[int, int]:
    """Columns and rows of "8x8".

    Raises:
        ArgumentError: it is not two whole numbers of at least 1, or larger than any picture.
    """
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text.strip(), re.ASCII)
    columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
    if columns < 1 or rows < 1 or columns * rows > LARGEST_GRID:
        needed = f"columns x rows, such as 8x8, at most {LARGEST_GRID} cells"
        raise ArgumentError("--grid", repr(text), needed)
    return columns, rows


def size(text: str) -> tuple[int, int]:
    """Height and width of "1024x512", which is width x height, as image tools say it.

    Raises:
        ArgumentError: it is not two whole numbers of at least 1.
    """
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip(), re.ASCII)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if width < 1 or height < 1:
        raise ArgumentError("--size", repr(text), "width x height in pixels, such as 1024x512")
    return height, width
