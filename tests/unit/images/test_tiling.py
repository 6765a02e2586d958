"""Tiling and fitting: geometry alone, against whole arrays and against NumPy's reflection."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.apply import fitting
from fastgan.errors import LimitError
from fastgan.images import tiling

settings.register_profile("patient", deadline=None)  # the machine may be busy
settings.load_profile("patient")

sides = st.integers(1, 90)


@given(
    size=st.tuples(sides, sides),
    tile=st.one_of(st.none(), st.integers(1, 64)),
    pad=st.integers(0, 20),
    multiple=st.tuples(*[st.sampled_from([1, 2, 7, 8])] * 2),
    small=st.integers(1, 4),
    more=st.integers(0, 7),
    fixed=st.tuples(*[st.one_of(st.none(), st.integers(1, 40))] * 2),
)
def test_kept_parts_cover_the_image_once_with_context(
    size: tuple[int, int],
    tile: int | None,
    pad: int,
    multiple: tuple[int, int],
    small: int,
    more: int,
    fixed: tuple[int | None, int | None],
) -> None:
    multiple = tuple(1 if only else by for by, only in zip(multiple, fixed, strict=True))
    remainder = tuple(more % by for by in multiple)
    minimum = tuple(small * by + rest for by, rest in zip(multiple, remainder, strict=True))
    grid = tiling.grid(size, tile, pad, multiple, minimum, fixed, remainder)
    for axis, cuts in enumerate((grid.rows, grid.columns)):
        length, window, only = size[axis], grid.window[axis], fixed[axis]
        assert window == only if only else window % multiple[axis] == remainder[axis]
        assert only or window >= minimum[axis]
        assert cuts[0].keep == 0
        assert cuts[-1].stop >= length
        assert all(a.stop == b.keep for a, b in itertools.pairwise(cuts))
        reach = min(pad, (window - 1) // 2)
        for cut in cuts:
            assert cut.start <= cut.keep < cut.stop <= cut.start + window
            assert only or cut.start % multiple[axis] == 0
            # Either the window sees `reach` beyond what is kept, or it ends where the image does.
            assert cut.start == 0 or cut.keep - cut.start >= reach
            assert cut.start + window >= cuts[-1].stop or cut.start + window - cut.stop >= reach


@given(
    size=st.tuples(sides, sides),
    tile=st.integers(1, 64),
    pad=st.integers(0, 9),
    multiple=st.sampled_from([1, 4]),
    scale=st.sampled_from([Fraction(1), Fraction(2), Fraction(4), Fraction(1, 2)]),
)
def test_windows_put_the_image_together_again(
    size: tuple[int, int], tile: int, pad: int, multiple: int, scale: Fraction
) -> None:
    if scale < 1:
        multiple *= 2
    image = torch.rand(1, 2, *size)
    factor = scale.numerator
    whole = image.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    whole = whole[:, :, :: scale.denominator, :: scale.denominator]
    result = torch.full_like(whole, torch.nan)
    grid = tiling.grid(size, tile, pad, (multiple, multiple))
    for rows, columns in grid:
        window = tiling.take(image, (rows.start, columns.start), grid.window)
        assert tuple(window.shape) == (1, 2, *grid.window)
        window = window.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        window = window[:, :, :: scale.denominator, :: scale.denominator]
        from_rows, to_rows = tiling.kept(rows, scale, tiling.scaled(size[0], scale))
        from_columns, to_columns = tiling.kept(columns, scale, tiling.scaled(size[1], scale))
        assert result[:, :, to_rows, to_columns].isnan().all()  # nothing is written twice
        result[:, :, to_rows, to_columns] = window[:, :, from_rows, from_columns]
    assert torch.equal(result, whole)


@given(size=st.tuples(sides, sides), beyond=st.tuples(st.integers(0, 200), st.integers(0, 200)))
def test_reflection_is_numpys(size: tuple[int, int], beyond: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    padded = np.pad(image, [(0, beyond[0]), (0, beyond[1])], mode="reflect")
    found = tiling.take(torch.from_numpy(image), (0, 0), padded.shape)
    assert np.array_equal(found.numpy(), padded)
    start = size[0] // 2, size[1] // 3
    part = tiling.take(torch.from_numpy(image), start, (1 + beyond[0], 1 + beyond[1]))
    assert (
        np.array_equal(
            part.numpy(), padded[start[0] :, start[1] :][: 1 + beyond[0], : 1 + beyond[1]]
        )
        or min(size[0] - start[0], size[1] - start[1]) < 1
    )


def test_a_whole_image_is_one_window() -> None:
    assert tiling.grid((30, 40)).whole
    assert len(tiling.grid((30, 40), tile=64)) == 1
    assert not tiling.grid((30, 40), multiple=(8, 8)).whole
    assert not tiling.grid((32, 40), multiple=(8, 8), remainder=(0, 1)).whole
    assert len(tiling.grid((4000, 6000), tile=512, pad=32)) == 8 * 12


# Fitting -----------------------------------------------------------------------------------------

OPEN = (None, None)
ONE = (Fraction(1), Fraction(1))


def told(multiple: int, steps: int) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """What `find` is told of a graph: its steps, and a size that is a multiple of them."""
    base = -(-64 // math.lcm(multiple, steps)) * math.lcm(multiple, steps)
    return (steps, steps), ((base, base),)


@pytest.mark.parametrize("multiple", [1, 2, 3, 7, 14, 16, 24, 60, 64, 256])
@pytest.mark.parametrize("more", [1, 2, 5])
@pytest.mark.parametrize("fails", [True, False])
def test_multiples_are_found(multiple: int, more: int, fails: bool) -> None:
    """Whether a model fails at other sizes, or rounds them; its graph may seem to need more."""

    def probe(height: int, width: int) -> tuple[int, int] | None:
        if fails and (height % multiple or width % multiple):
            return None
        return tuple(2 * (side // multiple) * multiple for side in (height, width))

    fit = fitting.find(OPEN, probe, *told(multiple, multiple * more))
    scale = (Fraction(2), Fraction(2))
    assert fit == fitting.Fit(OPEN, (multiple,) * 2, (multiple,) * 2, scale)


@pytest.mark.parametrize("multiple", [1, 2, 3, 5, 7, 8, 14, 22, 64])
@pytest.mark.parametrize("fails", [True, False])
def test_multiples_that_the_graph_does_not_tell(multiple: int, fails: bool) -> None:
    """At 64 a model that rounds to 7 gives 63: that is no scale."""

    def probe(height: int, width: int) -> tuple[int, int] | None:
        if fails and (height % multiple or width % multiple):
            return None
        return height // multiple * multiple, width // multiple * multiple

    base = (multiple * 6, multiple * 6) if fails else (64, 64)
    fit = fitting.find(OPEN, probe, (1, 1), (base,))
    assert fit == fitting.Fit(OPEN, (multiple,) * 2, (multiple,) * 2, ONE)


def test_height_and_width_have_rules_of_their_own() -> None:
    def probe(height: int, width: int) -> tuple[int, int] | None:
        return (3 * height, width // 5) if height % 4 == width % 5 == 0 and width > 20 else None

    fit = fitting.find(OPEN, probe, (8, 20), ((80, 80),))
    assert fit == fitting.Fit(OPEN, (4, 5), (4, 25), (Fraction(3), Fraction(1, 5)))


@pytest.mark.parametrize("least", [1, 3, 16, 40, 64])
def test_the_smallest_size_is_found(least: int) -> None:
    fit = fitting.find(OPEN, lambda h, w: (h, w) if min(h, w) >= least else None)
    assert (fit.multiple, fit.minimum) == ((1, 1), (least, least))


def test_a_remainder_that_makes_results_proportional() -> None:
    """Strides without padding, and their transposes: at even sizes the last pixel is lost."""
    fit = fitting.find(OPEN, lambda h, w: (h - 1 + h % 2, w - 1 + w % 2), (2, 2))
    assert fit == fitting.Fit(OPEN, (2, 2), (1, 1), ONE, (1, 1))


def test_results_that_lack_a_border() -> None:
    def probe(height: int, width: int) -> tuple[int, int] | None:
        if height % 4 != 2 or width % 4 != 2 or min(height, width) < 22:
            return None
        return 2 * height - 36, 2 * width - 36

    fit = fitting.find(OPEN, probe, (4, 4), ((66, 66),))
    assert (fit.scale, fit.multiple, fit.remainder, fit.minimum) == (None, (4, 4), (2, 2), (22, 22))
    assert fit.lengths((50, 101)) == (64, 166)


@pytest.mark.parametrize("turned", [True, False])
def test_what_is_in_no_proportion(turned: bool) -> None:
    """Images turned by a quarter, and results of one size."""
    fit = fitting.find(OPEN, lambda h, w: (w, h) if turned else (96, 96))
    assert (fit.scale, fit.fixed, fit.lengths((5, 9))) == (None, OPEN, None)


def test_a_size_too_large_to_be_tried_says_nothing() -> None:
    def probe(height: int, width: int) -> tuple[int, int] | None:
        if height * width > 20_000:
            raise LimitError("attention", "too much", "less")
        return (height, width) if height % 8 == width % 8 == 0 else None

    fit = fitting.find(OPEN, probe, (8, 8))
    assert fit == fitting.Fit(OPEN, (8, 8), (8, 8), ONE)


def test_other_fits() -> None:
    fixed = fitting.find((32, 48), lambda h, w: (4 * h, 4 * w))
    assert fixed == fitting.Fit((32, 48), scale=(Fraction(4), Fraction(4)))
    assert fitting.find((32, 48), lambda h, w: (7, 9)).scale == (Fraction(7, 32), Fraction(9, 48))
    only = fitting.find(OPEN, lambda h, w: (h, w) if (h, w) == (256, 256) else None)
    assert only == fitting.Fit((256, 256), scale=ONE)
    cropped = fitting.find(OPEN, lambda h, w: (min(2 * h, 96), min(2 * w, 96)))
    assert cropped == fitting.Fit((48, 48), scale=(Fraction(2), Fraction(2)))
    assert fitting.find(OPEN, lambda h, w: (h - 4, w - 4)).scale is None
    assert fitting.find(OPEN, lambda h, w: None) == fitting.Fit(OPEN)
    half = fitting.find((32, None), lambda h, w: (h, w) if h == 32 and w % 4 == 0 else None)
    assert half == fitting.Fit((32, None), (1, 4), (1, 4), ONE)
