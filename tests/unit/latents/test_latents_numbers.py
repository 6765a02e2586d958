"""The numbers themselves: Philox, the accuracy of the functions, and every CPU path bit for bit."""

import numpy as np
import pytest
import torch
from scipy import special

from fastgan import latents
from fastgan.latents import philox
from tests import drawing
from tests.draws import DRAWS

pytestmark = pytest.mark.cpu

native = latents._native
needs_native = pytest.mark.skipif(native is None, reason="fastgan._native was not built")
PATHS = native.paths() if native is not None else ["no path: fastgan._native was not built"]


def reference(draw: str, n: int, size: int, *, seed: int, start: int, stream: int) -> np.ndarray:
    kind, parameters = DRAWS[draw]
    out = np.full((n, size), 77, np.uint32 if kind == philox.BITS else np.float32)
    philox.fill(kind, out, seed=seed, start=start, stream=stream, parameters=parameters)
    return out.view(np.uint32)


def compiled(
    draw: str, n: int, size: int, *, seed: int, start: int, stream: int, threads: int, path: str
) -> np.ndarray:
    kind, parameters = DRAWS[draw]
    guarded = np.full((n + 2, size), 99, np.uint32 if kind == philox.BITS else np.float32)
    native.fill(kind, guarded[1:-1], seed, start, stream, *parameters, threads, path)
    assert (guarded[[0, -1]] == 99).all(), "written outside of the buffer"
    return guarded[1:-1].view(np.uint32)


@pytest.mark.parametrize(
    ("counter", "seed", "words"),
    [
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((2**32 - 1,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, seed, words):
    found = philox.philox(tuple(np.uint64(c) for c in counter), seed)
    assert [f"{word:08x}" for word in found] == words.split()


@needs_native
@pytest.mark.parametrize("path", PATHS)
def test_a_path_gives_the_known_answer_of_random123(path):
    found = compiled("bits", 1, 4, seed=0, start=0, stream=0, threads=1, path=path)
    assert [f"{word:08x}" for word in found[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_the_counter_is_sample_block_and_stream():
    sample, stream, seed = 2**40 + 3, 9, 2**63 + 11
    words = reference("bits", 1, 10, seed=seed, start=sample, stream=stream)[0]
    for block in range(3):
        counter = tuple(np.uint64(c) for c in (sample, sample >> 32, block, stream))
        expected = philox.philox(counter, seed)
        np.testing.assert_array_equal(words[4 * block : 4 * block + 4], expected[: 10 - 4 * block])


@needs_native
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("path", PATHS)
def test_a_path_equals_the_specification(path, draw):
    rng = drawing.new_numpy()
    cases = [
        (1, 1, 0, 0),
        (1, 2, 2**64 - 1, 2**64 - 1),
        (3, 7, 2**32 - 1, 5),
        (5, 64, 2**32 - 2, 2**32),
        (129, 31, 2**40, 2**63 + 5),
        (700, 100, 0, 1),
        (2, 4097, 1, 2),
        (9, 512, 7, 2**64 - 1),
        (*rng.integers(1, 300, 2).tolist(), *rng.integers(0, 2**63, 2).tolist()),
    ]
    for n, size, start, seed in cases:
        where = {"seed": seed, "start": start, "stream": 3}
        expected = reference(draw, n, size, **where)
        found = compiled(draw, n, size, **where, threads=1, path=path)
        np.testing.assert_array_equal(found, expected, err_msg=f"{n} x {size}, {where}")


@needs_native
@pytest.mark.parametrize("draw", ["normal", "hypersphere"])
@pytest.mark.parametrize("size", [512, 517])
def test_the_number_of_threads_makes_no_difference(draw, size):
    where = {"seed": 4, "start": 2**32 - 1000, "stream": 0}
    expected = compiled(draw, 2000, size, **where, threads=1, path="")
    for threads in (2, 3, 7):
        found = compiled(draw, 2000, size, **where, threads=threads, path="")
        np.testing.assert_array_equal(found, expected)


@needs_native
def test_native_refuses_what_it_cannot_write_to():
    good = np.zeros((2, 8), np.float32)
    sealed = good.copy()
    sealed.flags.writeable = False
    arguments = (0, 0, 0, 0.0, 1.0, 0.0)
    for bad in (good.astype(np.float64), good[:, ::2], good.T, good[0], sealed):
        with pytest.raises(ValueError, match="out"):
            native.fill(philox.NORMAL, bad, *arguments)
    with pytest.raises(ValueError, match="out"):
        native.fill(philox.BITS, good, *arguments)
    with pytest.raises(ValueError, match="kind"):
        native.fill(9, good, *arguments)
    with pytest.raises(ValueError, match="no path"):
        native.fill(philox.NORMAL, good, *arguments, 1, "abacus")


def ulps(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest error in units in the last place of the exact value's single precision."""
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return float((np.abs(found.astype(np.float64) - exact) / spacing).max())


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    """Words with both ends, and small ones as often as large ones."""
    rng = drawing.new_numpy()
    drawn = rng.integers(0, 2**32, 1_000_000, dtype=np.uint32)
    drawn[::2] >>= rng.integers(0, 32, 500_000).astype(np.uint32)
    drawn[:4096] = np.arange(4096)
    drawn[4096:8192] = 2**32 - 1 - np.arange(4096)
    return drawn


def test_normals_are_box_mullers_to_four_ulps(words):
    angle_words = drawing.new_numpy().permutation(words)
    found = philox.normal_pair(words, angle_words)
    u = np.minimum(np.float32(words >> 1) + np.float32(0.5), np.float32(2**31 - 128)) / 2.0**31
    radius = np.sqrt(-2 * np.log(u.astype(np.float64)))
    residual = (angle_words << 2).view(np.int32).astype(np.float32) * np.float32(2**-31)
    angle = (residual + np.float32(2**-32)).astype(np.float64) * np.pi / 4
    cosine = np.cos(angle) * np.where(angle_words >> 31, -1, 1)
    swap = (angle_words >> 30) & 1 == 1
    assert ulps(found[0], radius * np.where(swap, np.sin(angle), cosine)) < 4
    assert ulps(found[1], radius * np.where(swap, cosine, np.sin(angle))) < 4


def test_the_tails_reach_past_six_and_nothing_is_zero(words):
    assert philox.normal_pair(np.uint32([0]), np.uint32([0]))[0] == pytest.approx(6.6604, abs=1e-4)
    every = np.abs(philox.normal_pair(words, words[::-1].copy()))
    assert every.max() < 6.661
    assert every.min() > 0
    z = philox.truncated(np.uint32([0, 1]), latents._truncation(50.0))
    np.testing.assert_allclose(z, [-special.ndtri(2**-33), special.ndtri(2**-33)], rtol=1e-6)


def test_the_normal_quantile_is_right_to_four_ulps():
    rng = drawing.new_numpy()
    p = np.concatenate([0.5 * rng.random(500_000), 0.5 * np.exp(-22.1 * rng.random(500_000))])
    p = np.append(p.astype(np.float32), np.float32(2**-33))
    p = p[p >= 2**-33]
    exact = np.where(
        p < 0.25,
        -special.ndtri(p.astype(np.float64)),
        np.sqrt(2) * special.erfinv(2 * (0.5 - p.astype(np.float64))),
    )
    assert ulps(philox._minus_ndtri(p, np.float32(0.5) - p), exact) < 4


@pytest.mark.parametrize("limit", [1e-6, 0.04, 0.5, 1.0, 2.0, 3.5, 5.0])
def test_truncation_parameters_are_the_normal_distributions(limit):
    offset, scale, bound = latents._truncation(limit)
    assert offset == np.float32(special.ndtr(-limit))
    assert scale == pytest.approx(special.erf(limit / np.sqrt(2)) / 2**32, rel=1e-7)
    assert bound <= limit < np.nextafter(np.float32(bound), np.float32(9))


def test_latents_without_the_extension_are_the_same(monkeypatch):
    options = {"seed": 3, "start": 2**33}
    expected = [
        latents.normal(5, 33, **options),
        latents.normal(5, 33, truncation=1.5, **options),
        latents.sample("uniform_symmetric", 5, (33,), **options),
        latents.hypersphere(5, 33, **options),
        latents.labels(5, 1000, **options),
    ]
    monkeypatch.setattr(latents, "_native", None)
    assert latents.available()["cpu native"] is None
    found = [
        latents.normal(5, 33, **options),
        latents.normal(5, 33, truncation=1.5, **options),
        latents.sample("uniform_symmetric", 5, (33,), **options),
        latents.hypersphere(5, 33, **options),
        latents.labels(5, 1000, **options),
    ]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_these_numbers_never_change():
    """The promise to a user who wrote down a seed: a new version gives the same latents."""
    found = latents.normal(2, 3, seed=2024, start=2**32 - 1).numpy().view(np.uint32)
    assert [f"{bits:08x}" for bits in found[0]] == ["3e012c11", "bef9fcb8", "3eb15f0b"]
    assert [f"{bits:08x}" for bits in found[1]] == ["3fb37af1", "3f3d019e", "bf69e3c5"]
