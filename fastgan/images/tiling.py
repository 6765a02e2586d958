"""A large image as overlapping windows of one size, whose results join without a seam.

Every window has the same size, so that one plan serves all of them and they can be batched. A
window at the edge of the image is moved inwards instead of being cut, so the network meets the
image's edge exactly where it would in the whole image. Of each window's result the part that is at
least `pad` pixels from a window edge inside the image is kept: where the network's receptive field
reaches no further than `pad`, that is what the whole image would give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

Scale = tuple[Fraction, Fraction]


class Cut(NamedTuple):
    """A window on one axis: it begins at `start`, and its pixels from `keep` to `stop` are kept."""

    start: int
    keep: int
    stop: int


class Tile(NamedTuple):
    """A window: its cuts in height and width."""

    rows: Cut
    columns: Cut


@dataclass(frozen=True, slots=True)
class Grid:
    """The windows of an image.

    Attributes:
        size: (H, W) of the image.
        window: (H, W) of each window.
        rows, columns: the cuts; the kept parts cover the axis without overlap.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    rows: tuple[Cut, ...]
    columns: tuple[Cut, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        return (Tile(row, column) for row in self.rows for column in self.columns)

    @property
    def whole(self) -> bool:
        """Whether it is one window, the image itself."""
        return len(self) == 1 and self.window == self.size


def grid(
    size: tuple[int, int],
    tile: int | None = None,
    pad: int = 0,
    multiple: tuple[int, int] = (1, 1),
    minimum: tuple[int, int] = (1, 1),
    fixed: tuple[int | None, int | None] = (None, None),
    remainder: tuple[int, int] = (0, 0),
) -> Grid:
    """The windows of an image of this size.

    Args:
        size: (H, W).
        tile: about how many pixels of each window are kept a side; None for the whole image.
        pad: how many pixels beyond them a window sees, at least, inside the image.
        multiple: windows begin at multiples of this, of height and width each.
        minimum: the smallest window.
        fixed: the only height and width that a window may have, where there is one; then `tile`
            does not matter there.
        remainder: by how much windows, the smallest included, are longer than a multiple.
    """
    sides = []
    rules = zip(size, fixed, multiple, minimum, remainder, strict=True)
    for length, only, apart, least, more in rules:
        padded = max(_up(length - more, apart) + more, least)
        if only is not None:
            window = only
        elif tile is None:
            window = padded
        else:
            window = _up(tile, apart) + 2 * _up(pad, apart) + more
            window = min(padded, max(window, least))
        sides.append((window, _cuts(max(padded, window), window, _up(pad, apart), apart)))
    (height, rows), (width, columns) = sides
    return Grid(size, (height, width), rows, columns)


def _cuts(length: int, window: int, pad: int, multiple: int) -> tuple[Cut, ...]:
    cuts = []
    pad = min(pad, (window - 1) // 2)  # a fixed window may leave less room than asked for
    keep = 0
    while keep < length:
        start = max(keep - pad, 0) // multiple * multiple
        start = min(start, length - window)
        stop = length if start + window == length else start + window - pad
        cuts.append(Cut(start, keep, stop))
        keep = stop
    return tuple(cuts)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def take(values: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The window [..., h, w] of `values` at `start`; beyond the image's end it is reflected.

    The reflection goes back and forth as often as needed, so a single pixel can fill any window.
    """
    for axis, first, length in zip((-2, -1), start, size, strict=True):
        available = values.shape[axis]
        if first + length <= available:
            values = values.narrow(axis, first, length)
            continue
        period = max(1, 2 * (available - 1))
        index = torch.arange(first, first + length, device=values.device) % period
        values = values.index_select(axis, torch.minimum(index, period - index))
    return values


def scaled(length: int, scale: Fraction) -> int:
    """The length of a result; where the scale leaves a fraction of a pixel, that counts whole."""
    return -(-length * scale.numerator // scale.denominator)


def kept(cut: Cut, scale: Fraction, length: int) -> tuple[slice, slice]:
    """Where the kept part of a window's result lies: in that result, and in the whole result.

    Args:
        length: of the whole result; what a window saw beyond the image is dropped.
    """
    first = scaled(cut.keep, scale)
    last = min(scaled(cut.stop, scale), length)
    shift = scaled(cut.start, scale)
    return slice(first - shift, max(first, last) - shift), slice(first, max(first, last))
