"""Walks: functions of the frame alone, of the right distribution, that meet where they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastgan import latents
from fastgan.errors import ArgumentError
from fastgan.realtime import Drift, Each, Envelope, Mix, Orbit, Retime, Rows, SeedPath, Space

SPACE = Space((6, 5), batch=2)
WALKS = {
    "spherical": SeedPath((1, 2, 3), frames=7),
    "linear": SeedPath((1, 2, 3), frames=7, interpolation="linear"),
    "cubic": SeedPath((1, 2, 3), frames=7, interpolation="cubic"),
    "numpy": SeedPath((1, 2), frames=7, rng="numpy"),
    "open": SeedPath((1, 2, 3), frames=7, loop=False),
    "drift": Drift(4, frames=9),
    "orbit": Orbit(5, frames=30),
    "rows": Rows(np.random.default_rng(0).normal(size=(11, 6, 5))),
    "mix": Mix(Drift(1), Orbit(2), 0.3),
    "each": Each((SeedPath((1, 2)), Drift(3))),
    "envelope": Retime(Drift(1), Envelope(np.linspace(0, 1, 20))),
    "retime": Retime(Drift(1), 0.7, 3.0),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_frame_is_the_same_wherever_the_walk_begins(name) -> None:
    walk = WALKS[name]
    whole = walk.at(0, 60, SPACE)
    assert whole.shape == (60, 2, 6, 5)
    assert whole.dtype == torch.float32
    for first, n in ((0, 60), (1, 1), (17, 13), (59, 1)):
        assert torch.equal(walk.at(first, n, SPACE), whole[first : first + n])
    assert torch.equal(walk.at(8, 3, SPACE, step=0.5)[::2], whole[8:10])


@pytest.mark.parametrize("name", WALKS)
def test_it_moves_smoothly(name) -> None:
    walk = WALKS[name]
    points = walk.at(0, 200, SPACE, step=0.05).flatten(1)
    steps = (points[1:] - points[:-1]).norm(dim=1)
    if name == "open":
        steps = steps[steps > 0]
    assert steps.max() < 12 * steps.median()
    assert steps.max() < 1.0


@pytest.mark.parametrize("name", ["spherical", "linear", "cubic", "orbit", "rows"])
def test_a_loop_closes_exactly(name) -> None:
    walk = WALKS[name]
    assert walk.period is not None
    assert torch.equal(walk.at(0, 5, SPACE), walk.at(walk.period, 5, SPACE))


def test_a_seed_path_shows_the_seeds_of_generate() -> None:
    for name in ("spherical", "linear", "cubic", "open"):
        for frame, seed in ((0, 1), (7, 2), (14, 3)):
            expected = latents.sample("normal", 2, (6, 5), seed=seed)
            assert torch.equal(WALKS[name].at(frame, 1, SPACE)[0], expected)
    space = Space((6, 5), batch=2, truncation=0.7)
    expected = latents.sample("normal", 2, (6, 5), seed=2, truncation=0.7)
    assert torch.equal(WALKS["spherical"].at(7, 1, space)[0], expected)
    assert WALKS["spherical"].at(0, 30, space).abs().max() <= 0.7


def test_slerp_keeps_the_length() -> None:
    points = SeedPath((1, 2), frames=50).at(0, 50, Space((512,))).flatten(1)
    norms = points.norm(dim=1)
    expected = torch.lerp(norms[0], SeedPath((2,)).at(0, 1, Space((512,))).norm(),
                          torch.arange(50) / 50)  # fmt: skip
    torch.testing.assert_close(norms, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("walk", [Drift(3, frames=2), Orbit(3, harmonics=4), WALKS["mix"]])
def test_noise_is_standard_normal_at_every_frame(walk) -> None:
    values = walk.at(0.3, 40, Space((4000,)), step=1.37).flatten(1)
    assert values.mean(1).abs().max() < 0.08
    torch.testing.assert_close(values.std(1), torch.ones(40), rtol=0.05, atol=0)


@pytest.mark.parametrize("name", sorted(WALKS.keys() - {"rows", "numpy"}))
@pytest.mark.parametrize("distribution", ["uniform", "uniform_symmetric", "hypersphere"])
def test_other_distributions_are_kept(name, distribution) -> None:
    points = WALKS[name].at(0, 30, Space((64,), distribution, 2))
    if distribution == "hypersphere":
        torch.testing.assert_close(points.norm(dim=-1), torch.ones(30, 2), rtol=1e-5, atol=0)
    else:
        assert points.min() >= (0 if distribution == "uniform" else -1)
        assert points.max() <= 1
        assert points.std() > 0.1


def test_truncation_bends_noise_without_a_jump() -> None:
    free = Drift(1).at(5, 1, Space((4000,)))
    bent = [Drift(1).at(5, 1, Space((4000,), truncation=t)) for t in (0.5, 0.51, 8.0)]
    assert bent[0].abs().max() <= 0.5
    assert (bent[0] - bent[1]).abs().max() < 0.02
    torch.testing.assert_close(bent[2], free, rtol=0, atol=1e-5)
    assert torch.equal(bent[0].sign(), free.sign())


def test_an_envelope_follows_the_sound_and_adds_up() -> None:
    time = np.arange(44_100) / 44_100
    sound = np.sin(2 * np.pi * 440 * time) * (time > 0.5)
    envelope = Envelope.of_sound(sound, 44_100, fps=30)
    assert envelope.frames == 30
    values = envelope.at(np.arange(30.0))
    assert values[:14].max() < 0.01
    assert values[16:].min() > 0.9
    assert Envelope.of_sound(sound, 44_100, 30, band=(20, 200)).at(np.array([20.0])) <= 1
    bass = Envelope.of_sound(sound + np.sin(2 * np.pi * 50 * time), 44_100, 30, band=(20, 200))
    assert bass.at(np.arange(2.0, 28.0)).min() > 0.9
    ramp = Envelope(np.arange(11.0))  # the integral of x is x^2 / 2
    where = np.array([-2.0, 0.0, 0.5, 3.0, 7.25, 10.0, 12.0])
    assert ramp.sum_to(where).tolist() == [0.0, 0.0, 0.125, 4.5, 26.28125, 50.0, 70.0]


def test_images_of_a_frame_go_their_own_ways_whatever_the_batch() -> None:
    for walk in (Drift(1), Orbit(1), SeedPath((1, 2))):
        many, one = walk.at(3, 2, Space((9,), batch=3)), walk.at(3, 2, Space((9,)))
        assert torch.equal(many[:, :1], one)
        assert not torch.equal(many[:, 1], many[:, 0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SeedPath(()),
        lambda: SeedPath((-1,)),
        lambda: SeedPath((1,), frames=0),
        lambda: SeedPath((1,), interpolation="quintic"),
        lambda: Drift(2**64),
        lambda: Orbit(harmonics=0),
        lambda: Rows([1.0, 2.0]),
        lambda: Rows([[float("nan")]]),
        lambda: Space.of(_Port, truncation=1.0),
    ],
)
def test_bad_walks_are_refused(make) -> None:
    with pytest.raises(ArgumentError):
        make()


class _Port:
    shape, distribution = ("n", 4), "uniform"
