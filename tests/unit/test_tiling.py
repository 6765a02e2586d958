"""Tiling and fitting: geometry alone, against whole arrays and against NumPy's reflection."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan import tiling
from fastgan.image_to_image import fitting

settings.register_profile("patient", deadline=None)  # the machine may be busy
settings.load_profile("patient")

sides = st.integers(1, 90)


@given(
    size=st.tuples(sides, sides),
    tile=st.one_of(st.none(), st.integers(1, 64)),
    pad=st.integers(0, 20),
    multiple=st.sampled_from([1, 2, 8]),
    small=st.integers(0, 2),
    fixed=st.tuples(*[st.one_of(st.none(), st.integers(1, 40))] * 2),
)
def test_kept_parts_cover_the_image_once_with_context(
    size: tuple[int, int],
    tile: int | None,
    pad: int,
    multiple: int,
    small: int,
    fixed: tuple[int | None, int | None],
) -> None:
    grid = tiling.grid(size, tile, pad, multiple, multiple << small, fixed)
    for axis, cuts in enumerate((grid.rows, grid.columns)):
        length, window, only = size[axis], grid.window[axis], fixed[axis]
        assert window == only if only else window % multiple == 0 and window >= multiple << small
        assert cuts[0].keep == 0
        assert cuts[-1].stop >= length
        assert all(a.stop == b.keep for a, b in itertools.pairwise(cuts))
        reach = min(pad, (window - 1) // 2)
        for cut in cuts:
            assert cut.start <= cut.keep < cut.stop <= cut.start + window
            assert only or cut.start % multiple == 0
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
    grid = tiling.grid(size, tile, pad, multiple)
    for rows, columns in grid:
        window = tiling.take(image, (rows.start, columns.start), grid.window)
        assert tuple(window.shape) == (1, 2, *grid.window)
        window = window.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        window = window[:, :, :: scale.denominator, :: scale.denominator]
        from_rows, to_rows = tiling.kept(rows, scale, size[0])
        from_columns, to_columns = tiling.kept(columns, scale, size[1])
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
    assert not tiling.grid((30, 40), multiple=8).whole
    assert len(tiling.grid((4000, 6000), tile=512, pad=32)) == 8 * 12


# Fitting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiple", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("fails", [True, False])
def test_multiples_are_found(multiple: int, fails: bool) -> None:
    """Whether a model fails at other sizes, or rounds them."""

    def probe(height: int, width: int) -> tuple[int, int] | None:
        if fails and (height % multiple or width % multiple):
            return None
        return tuple(2 * (side // multiple) * multiple for side in (height, width))

    fit = fitting.find((None, None), probe)
    assert fit == fitting.Fit((None, None), multiple, multiple, (Fraction(2), Fraction(2)))


@pytest.mark.parametrize(("least", "minimum"), [(1, 1), (3, 4), (16, 16), (40, 64), (64, 64)])
def test_the_smallest_size_is_found(least: int, minimum: int) -> None:
    fit = fitting.find((None, None), lambda h, w: (h, w) if min(h, w) >= least else None)
    assert (fit.multiple, fit.minimum) == (1, minimum)


def test_other_fits() -> None:
    one = (Fraction(1), Fraction(1))
    fixed = fitting.find((32, 48), lambda h, w: (4 * h, 4 * w))
    assert fixed == fitting.Fit((32, 48), 1, 1, (Fraction(4), Fraction(4)))
    assert fitting.find((32, 48), lambda h, w: (7, 9)).scale == (Fraction(7, 32), Fraction(9, 48))
    only = fitting.find((None, None), lambda h, w: (h, w) if (h, w) == (256, 256) else None)
    assert only == fitting.Fit((256, 256), 1, 1, one)
    assert fitting.find((None, None), lambda h, w: (h - 4, w - 4)).scale is None
    assert fitting.find((None, None), lambda h, w: None).scale is None
    half = fitting.find((32, None), lambda h, w: (h, w) if h == 32 and w % 4 == 0 else None)
    assert half == fitting.Fit((32, None), 4, 4, one)
