"""The numbers as random numbers: distribution, moments, tails, independence.

Seeds are fixed and the numbers the same on every machine, so a bound that holds once always holds.
"""

import numpy as np
import pytest
from scipy import stats

from fastgan import latents

MILLIONS = 10
pytestmark = pytest.mark.skipif(
    latents._native is None, reason="ten million draws take the NumPy reference too long"
)


@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    return latents.normal(MILLIONS * 10_000, 100, seed=1).numpy()


def fits(values: np.ndarray, cdf) -> bool:
    """A Kolmogorov-Smirnov test at one in a thousand; cdf takes sorted values."""
    values = np.sort(values.reshape(-1).astype(np.float64))
    expected = cdf(values)
    n = len(values)
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - expected).max(), (expected - steps[:-1]).max())
    return stats.kstwobign.sf(distance * np.sqrt(n)) > 1e-3


def test_ten_million_normals_are_normal(normals):
    assert fits(normals, stats.norm.cdf)


def test_moments(normals):
    z = normals.reshape(-1).astype(np.float64)
    n = len(z)
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * np.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / n)


@pytest.mark.parametrize("bound", [3.0, 4.0, 4.5, 5.0])
def test_tails(normals, bound):
    for count in ((normals > bound).sum(), (normals < -bound).sum()):
        expected = normals.size * stats.norm.sf(bound)
        assert abs(count - expected) < 4 * np.sqrt(expected)


def test_each_of_the_four_elements_of_a_block_is_normal(normals):
    for j in range(4):
        assert fits(normals[:20_000, j::4], stats.norm.cdf)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """In standard deviations of that of independent values."""
    a, b = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    a -= a.mean()
    b -= b.mean()
    return float(abs(a @ b) / np.sqrt((a @ a) * (b @ b)) * np.sqrt(len(a)))


def test_neighbours_are_uncorrelated(normals):
    for lag in (1, 2, 3, 4, 8):
        near, far = normals[:, :-lag], normals[:, lag:]
        assert correlation(near, far) < 4
        assert correlation(near**2, far**2) < 4
        assert correlation(np.abs(near), far) < 4
    for first in range(0, 4, 2):  # the two of one Box-Muller pair
        a, b = normals[:, first::4], normals[:, first + 1 :: 4]
        assert correlation(a, b) < 4
        assert correlation(a**2, b**2) < 4
        assert correlation(a, b**2) < 4


def test_samples_seeds_and_streams_are_uncorrelated(normals):
    assert correlation(normals[:-1], normals[1:]) < 4
    part = normals[:10_000]
    others = [{"seed": 2}, {"seed": 1 + 2**32}, {"seed": 1, "stream": 1}, {"start": 2**32}]
    for other in others:
        drawn = latents.normal(10_000, 100, **{"seed": 1, **other}).numpy()
        assert correlation(part, drawn) < 4
        assert correlation(part**2, drawn**2) < 4


def test_uniforms_are_uniform():
    assert fits(latents.uniform(20_000, 100, seed=2).numpy(), lambda x: x)


@pytest.mark.parametrize("limit", [1e-4, 0.5, 2.0, 6.0])
def test_truncated_normals_are_truncated_normals(limit):
    values = latents.normal(10_000, 100, seed=3, truncation=limit).numpy()
    assert fits(values, lambda z: stats.truncnorm.cdf(z, -limit, limit))
    assert correlation(values[:, :-1], values[:, 1:]) < 4


def test_points_on_the_sphere_have_no_direction():
    points = latents.hypersphere(300_000, 3, seed=4).numpy()
    for axis in range(3):  # Archimedes: each coordinate is uniform
        assert fits(points[:, axis], lambda x: (x + 1) / 2)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_labels_are_equally_likely(classes):
    drawn = latents.labels(1_000_000, classes, seed=5).numpy()
    assert stats.chisquare(np.bincount(drawn, minlength=classes)).pvalue > 1e-3
    assert correlation(drawn[:-1], drawn[1:]) < 4
