"""Walks made of walks: side by side, mixed, pushed aside, at another speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.realtime.walks.space import NUDGE_STREAM, Array, Space, normals
from fastgan.realtime.walks.walks import SeedPath, Walk, settle, single


class Signal(Protocol):
    """A number for each frame: what drives a `Mix` or a `Retime`."""

    def at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its values at these frames [n]."""

    def sum_to(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of its values from frame 0 up to these frames [n]."""


@dataclass(frozen=True)
class Each(Walk):
    """A walk of its own for each image of a frame: a grid, several textures, two eyes.

    Args:
        walks: as many as a frame has images.
    """

    walks: tuple[Walk, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "walks", tuple(self.walks))

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`: each gets the seeds after those of the one before."""
        moved, walks = seed, []
        for walk in self.walks:
            walks.append(walk.reseeded(moved % 2**64))
            moved += len(walk.seeds) if isinstance(walk, SeedPath) else 1
        return replace(self, walks=tuple(walks))

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        if len(self.walks) != space.batch:
            found = f"{len(self.walks)} walks for {space.batch} images in a frame"
            raise ArgumentError("latents", found, "as many")
        one = replace(space, batch=1)
        return np.concatenate([walk.latents(positions, one) for walk in self.walks], 1)


@dataclass(frozen=True)
class Mix(Walk):
    """Between two walks: all `first` where `amount` is 0, all `second` where it is 1.

    The weights are cosine and sine, so that two independent normals stay one.

    Args:
        first, second: the walks.
        amount: a number, or a signal, such as the envelope of a sound.
    """

    first: Walk
    second: Walk
    amount: float | Signal = 0.5

    def __post_init__(self) -> None:
        settle(self, "amount", _amount("amount", self.amount))

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`: the second gets the seed after it."""
        second = self.second.reseeded((seed + 1) % 2**64)
        return replace(self, first=self.first.reseeded(seed), second=second)

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        a, b = self.first.latents(positions, space), self.second.latents(positions, space)
        amounts = _values(self.amount, positions)
        turns = [min(max(float(x), 0.0), 1.0) * math.pi / 2.0 for x in amounts]
        shape = (len(turns),) + (1,) * (a.ndim - 1)
        straight = space.distribution.startswith("uniform")
        near = [1.0 - x / (math.pi / 2.0) if straight else math.cos(x) for x in turns]
        far = [x / (math.pi / 2.0) if straight else math.sin(x) for x in turns]
        mixed = _column(near, shape) * a + _column(far, shape) * b
        return space.confine(mixed)


@dataclass(frozen=True)
class Nudge(Walk):
    """A walk pushed aside by hand: along two directions of a seed, for a picture that is dragged.

    cos(r) z + sin(r) (x a + y b) / r with r = sqrt(x^2 + y^2): what is standard normal stays so,
    and 2 pi in any direction is back.

    Args:
        walk: what is pushed.
        x, y: how far, in radians.
        seed: of the directions.
    """

    walk: Walk
    x: float = 0.0
    y: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        settle(self, "seed", arguments.whole("seed", self.seed, 0, arguments.LARGEST_SEED))
        settle(self, "x", arguments.number("x", self.x))
        settle(self, "y", arguments.number("y", self.y))

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`."""
        return replace(self, walk=self.walk.reseeded(seed), seed=seed)

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        values = self.walk.latents(positions, space)
        far = math.hypot(self.x, self.y)
        if not far:
            return values
        aside = sum(
            single(math.sin(far) * value / far) * normals(self.seed, i, space, NUDGE_STREAM)
            for i, value in enumerate((self.x, self.y))
        )
        return space.confine(single(math.cos(far)) * values + aside)


@dataclass(frozen=True)
class Retime(Walk):
    """A walk at another speed, from another frame on, or driven: louder is faster.

    Args:
        walk: what is walked.
        speed: frames of `walk` per frame: a number, or a signal.
        start: the frame of `walk` that frame 0 shows.
    """

    walk: Walk
    speed: float | Signal = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "speed", _amount("speed", self.speed))
        settle(self, "start", arguments.number("start", self.start))

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`."""
        return replace(self, walk=self.walk.reseeded(seed))

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        if isinstance(self.speed, float):
            return self.walk.latents(self.start + positions * self.speed, space)
        return self.walk.latents(self.start + self.speed.sum_to(positions), space)


def _amount(name: str, value: Any) -> Any:
    """A signal as it is, and a number as Python's own."""
    return value if hasattr(value, "sum_to") else arguments.number(name, value)


def _column(values: Sequence[float], shape: tuple[int, ...]) -> Array:
    return np.array(values, np.float32).reshape(shape)


def _values(amount: float | Signal, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(amount, float):
        return np.full(len(positions), amount)
    return amount.at(positions)
