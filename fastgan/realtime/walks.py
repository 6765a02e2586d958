"""Latent walks: which latents frame k shows. Small frozen objects that are put together.

    walk = SeedPath((0, 1, 2), frames=60, loop=True)
    walk.at(120, 4, space)              # frames 120 to 123: float32 [4, batch, *shape]

A walk is a function of the frame alone: it may begin anywhere, run at any speed and be recorded
twice, and gives the same numbers, bit for bit. All that is random comes from `fastgan.latents`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastgan import latents
from fastgan.errors import ArgumentError
from fastgan.signature import Input

Array = NDArray[np.float32]

INTERPOLATIONS = ("spherical", "linear", "cubic")

#: Streams of random numbers (see `latents.sample`) that nothing else draws from, plus the image's
#: number within a frame.
_DRIFT_STREAM = 1 << 16
_ORBIT_STREAM = 1 << 17
_NUDGE_STREAM = 1 << 18


@dataclass(frozen=True, slots=True)
class Space:
    """What the latents of a frame are.

    Attributes:
        shape: of one latent.
        distribution: as in `fastgan.signature.Input`.
        batch: images in a frame.
        truncation: bend normal latents into +-truncation; None leaves them as they are.
    """

    shape: tuple[int, ...]
    distribution: str = "normal"
    batch: int = 1
    truncation: float | None = None

    @staticmethod
    def of(port: Input, batch: int = 1, truncation: float | None = None) -> Space:
        """The space of a model's latent input; an open size is 1.

        Raises:
            ArgumentError: truncation of a distribution that has none, or out of range.
        """
        shape = tuple(size if isinstance(size, int) else 1 for size in port.shape[1:])
        distribution = port.distribution or "normal"
        if truncation is not None:  # what sampling would refuse is refused at once
            latents.sample(distribution, 1, (1,), truncation=truncation)
        return Space(shape, distribution, batch, truncation)

    def confine(self, values: Array) -> Array:
        """Latents that were mixed, [n, batch, *shape], brought back to where such latents lie."""
        if self.distribution == "hypersphere":
            flat = values.reshape(*values.shape[:2], -1)
            norm = np.sqrt((flat * flat).sum(-1, keepdims=True))
            return (flat / np.maximum(norm, np.float32(1e-12))).reshape(values.shape)
        if self.distribution == "uniform":
            return values.clip(0.0, 1.0)
        if self.distribution == "uniform_symmetric":
            return values.clip(-1.0, 1.0)
        if self.truncation is not None:
            return values.clip(-self.truncation, self.truncation)
        return values

    def from_normal(self, values: Array) -> Array:
        """Standard normals [n, batch, *shape] as latents of this distribution."""
        if self.distribution == "hypersphere":
            return self.confine(values)
        if self.distribution == "normal" and self.truncation is None:
            return values
        below = torch.special.ndtr(torch.from_numpy(values).double())
        if self.distribution == "uniform":
            return below.float().numpy()
        if self.distribution == "uniform_symmetric":
            return (2.0 * below - 1.0).float().numpy()
        limit = torch.tensor(float(self.truncation or 0.0), dtype=torch.float64)
        tail = torch.special.ndtr(-limit)
        bent = torch.special.ndtri(tail + below * (1.0 - 2.0 * tail))
        return bent.clamp(-limit, limit).float().numpy()


class Signal(Protocol):
    """A number for each frame: what drives a `Mix` or a `Retime`."""

    def at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its values at these frames [n]."""

    def sum_to(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of its values from frame 0 up to these frames [n]."""


class Walk(ABC):
    """A path through latent space; its unit of time is the frame."""

    @abstractmethod
    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """The latents at these frames, which may be fractions: float32 [n, batch, *shape]."""

    def at(self, first: float, n: int, space: Space, step: float = 1.0) -> Tensor:
        """The latents of n frames from `first` on, `step` apart: float32 [n, batch, *shape]."""
        positions = first + step * np.arange(n, dtype=np.float64)
        return torch.from_numpy(np.ascontiguousarray(self.latents(positions, space)))

    def reseeded(self, seed: int) -> Walk:
        """The same walk from another seed; itself where nothing in it is random."""
        return self

    @property
    def period(self) -> float | None:
        """After how many frames it repeats exactly; None if it doesn't."""
        return None


@dataclass(frozen=True)
class SeedPath(Walk):
    """From seed to seed: at every `frames` frames it shows what `generate(batch, seed=s)` shows.

    Args:
        seeds: in their order, at least one.
        frames: from one to the next.
        interpolation: "spherical" (Shoemake 1985, slerp), "linear", or "cubic" (Catmull and Rom
            1974: no corners at the seeds).
        loop: go on from the last to the first, for ever; else stay at the last.
        rng: as in `Generator.generate`.
    """

    seeds: tuple[int, ...]
    frames: float = 60.0
    interpolation: str = "spherical"
    loop: bool = True
    rng: str = "philox"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not self.seeds:
            raise ArgumentError("seeds", "none", "at least one")
        for seed in self.seeds:
            latents.sample("normal", 1, (1,), seed=seed)  # says what a seed may be
        _positive("frames", self.frames)
        if self.interpolation not in INTERPOLATIONS:
            needed = ", ".join(INTERPOLATIONS)
            raise ArgumentError("interpolation", repr(self.interpolation), needed)

    @property
    def period(self) -> float | None:
        """See `Walk.period`."""
        return self.frames * len(self.seeds) if self.loop else None

    def reseeded(self, seed: int) -> Walk:
        """As many seeds, from `seed` on."""
        last = 2**64
        return replace(self, seeds=tuple((seed + i) % last for i in range(len(self.seeds))))

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        return np.stack([self._one(position, space) for position in positions])

    def _one(self, position: float, space: Space) -> Array:
        along = position / self.frames
        whole = math.floor(along)
        part = along - whole
        if not self.loop and not 0 <= whole < len(self.seeds) - 1:
            whole, part = (0 if whole < 0 else len(self.seeds) - 1), 0.0
        if part == 0.0:  # exactly at a seed, also where interpolation would round
            return self._key(whole, space)
        a, b = self._key(whole, space), self._key(whole + 1, space)
        if self.interpolation == "cubic":
            before, after = self._key(whole - 1, space), self._key(whole + 2, space)
            return space.confine(_catmull_rom(before, a, b, after, part)[None])[0]
        if self.interpolation == "linear" or space.distribution.startswith("uniform"):
            return space.confine((_f32(1.0 - part) * a + _f32(part) * b)[None])[0]
        return space.confine(_slerp(a, b, part)[None])[0]

    def _key(self, index: int, space: Space) -> Array:
        if self.loop:
            index %= len(self.seeds)
        else:
            index = min(max(index, 0), len(self.seeds) - 1)
        return _key(self.seeds[index], space, self.rng)


@dataclass(frozen=True)
class Drift(Walk):
    """Endless smooth noise: never the same again, always of the model's own distribution.

    Normals on a lattice `frames` apart, blended by a cubic B-spline whose weights are scaled so
    that every frame has unit variance: a smooth relative of the Ornstein-Uhlenbeck process that
    needs no history, so frame k costs the same for every k.

    Args:
        seed: of the lattice.
        frames: after about so many frames a latent is another one.
    """

    seed: int = 0
    frames: float = 60.0

    def __post_init__(self) -> None:
        latents.sample("normal", 1, (1,), seed=self.seed)
        _positive("frames", self.frames)

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`."""
        return replace(self, seed=seed)

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        return space.from_normal(np.stack([self._one(p, space) for p in positions]))

    def _one(self, position: float, space: Space) -> Array:
        along = max(0.0, position) / self.frames
        whole = math.floor(along)
        weights = _b_spline(along - whole)
        scale = 1.0 / math.sqrt(sum(w * w for w in weights))
        lattice = [_normals(self.seed, whole + i, space, _DRIFT_STREAM) for i in range(4)]
        value = _f32(weights[0] * scale) * lattice[0]
        for weight, normals in zip(weights[1:], lattice[1:], strict=True):
            value = value + _f32(weight * scale) * normals
        return value


@dataclass(frozen=True)
class Orbit(Walk):
    """A perfect loop: after `frames` frames it is back, position and speed alike.

    A sum of circles: sqrt(1 / harmonics) * sum of cos(h t) a_h + sin(h t) b_h with independent
    normals a_h, b_h, which is itself standard normal at every t.

    Args:
        seed: of the circles.
        frames: once around.
        harmonics: how many circles, the h-th turning h times; more is livelier.
    """

    seed: int = 0
    frames: float = 240.0
    harmonics: int = 2

    def __post_init__(self) -> None:
        latents.sample("normal", 1, (1,), seed=self.seed)
        _positive("frames", self.frames)
        if not (isinstance(self.harmonics, int) and 1 <= self.harmonics <= 64):
            raise ArgumentError("harmonics", repr(self.harmonics), "1 to 64")

    @property
    def period(self) -> float | None:
        """See `Walk.period`."""
        return self.frames

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`."""
        return replace(self, seed=seed)

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        return space.from_normal(np.stack([self._one(p, space) for p in positions]))

    def _one(self, position: float, space: Space) -> Array:
        turn = 2.0 * math.pi * (math.fmod(position, self.frames) / self.frames)
        value = np.zeros((space.batch, *space.shape), np.float32)
        scale = math.sqrt(1.0 / self.harmonics)
        for h in range(1, self.harmonics + 1):
            a = _normals(self.seed, 2 * h, space, _ORBIT_STREAM)
            b = _normals(self.seed, 2 * h + 1, space, _ORBIT_STREAM)
            value = value + _f32(scale * math.cos(h * turn)) * a
            value = value + _f32(scale * math.sin(h * turn)) * b
        return value


@dataclass(frozen=True, eq=False)
class Rows(Walk):
    """A player's own latents, one row a frame; between two rows it goes in a straight line.

    Args:
        rows: [n, *shape], for every image of a frame alike, or [n, batch, *shape].
        loop: from the last row on to the first; else stay at the last.
    """

    rows: ArrayLike
    loop: bool = True
    _values: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = np.asarray(self.rows).astype(np.float32)
        if values.ndim < 2 or not values.size:
            raise ArgumentError("rows", f"shape {values.shape}", "[frames, *latent shape]")
        if not np.isfinite(values).all():
            raise ArgumentError("rows", "NaN or Inf", "finite numbers")
        object.__setattr__(self, "_values", values)

    @property
    def period(self) -> float | None:
        """See `Walk.period`."""
        return float(len(self._values)) if self.loop else None

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        values, count = self._values, len(self._values)
        if values.shape[1:] == space.shape:
            values = np.broadcast_to(values[:, None], (count, space.batch, *space.shape))
        if values.shape[1:] != (space.batch, *space.shape):
            needed = f"[n, {', '.join(map(str, (space.batch, *space.shape)))}]"
            raise ArgumentError("rows", f"shape {self._values.shape}", needed)
        found = []
        for position in positions:
            whole = math.floor(position)
            part = position - whole
            first, second = (
                (i % count if self.loop else min(max(i, 0), count - 1)) for i in (whole, whole + 1)
            )
            a = values[first]
            found.append(a if not part else _f32(1.0 - part) * a + _f32(part) * values[second])
        return np.stack(found)


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
        latents.sample("normal", 1, (1,), seed=self.seed)
        for name, value in (("x", self.x), ("y", self.y)):
            if not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ArgumentError(name, repr(value), "a finite number")

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
            _f32(math.sin(far) * value / far) * _normals(self.seed, i, space, _NUDGE_STREAM)
            for i, value in enumerate((self.x, self.y))
        )
        return space.confine(_f32(math.cos(far)) * values + aside)


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

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`."""
        return replace(self, walk=self.walk.reseeded(seed))

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        if isinstance(self.speed, (int, float)):
            return self.walk.latents(self.start + positions * float(self.speed), space)
        return self.walk.latents(self.start + self.speed.sum_to(positions), space)


def walk_of(value: Any, seed: int) -> Walk:
    """The walk that a caller means: a walk, seeds, an array of latents; None is a drift.

    Raises:
        ArgumentError: it is none of these.
    """
    if value is None:
        return Drift(seed)
    if isinstance(value, Walk):
        return value
    if isinstance(value, Tensor):
        return Rows(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return Rows(value)
    if isinstance(value, Sequence) and value and all(type(one) is int for one in value):
        return SeedPath(tuple(value))
    needed = "a walk of fastgan.realtime, a list of seeds, or an array [frames, *shape]"
    raise ArgumentError("latents", type(value).__name__, needed)


# Numbers -----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _key(seed: int, space: Space, rng: str) -> Array:
    """Samples 0, 1, ... of a seed, one for each image of a frame: [batch, *shape]."""
    drawn = latents.sample(
        space.distribution,
        space.batch,
        space.shape,
        seed=seed,
        truncation=space.truncation,
        rng=rng,
        threads=1,
    )
    return _fixed(drawn.numpy())


@lru_cache(maxsize=256)
def _normals(seed: int, index: int, space: Space, stream: int) -> Array:
    """Sample `index` of a seed for each image of a frame: [batch, *shape]."""
    values = np.empty((space.batch, *space.shape), np.float32)
    for image in range(space.batch):
        latents.sample(
            "normal",
            1,
            space.shape,
            seed=seed,
            start=index,
            stream=stream + image,
            threads=1,
            out=torch.from_numpy(values[image : image + 1]),
        )
    return _fixed(values)


def _fixed(values: Array) -> Array:
    values.flags.writeable = False
    return values


def _f32(value: float) -> np.float32:
    return np.float32(value)


def _column(values: Sequence[float], shape: tuple[int, ...]) -> Array:
    return np.array(values, np.float32).reshape(shape)


def _values(amount: float | Signal, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(amount, (int, float)):
        return np.full(len(positions), float(amount))
    return amount.at(positions)


def _slerp(a: Array, b: Array, part: float) -> Array:
    """On the great arc between a and b [batch, *shape], row by row; lengths go in proportion."""
    result = np.empty_like(a)
    for row in range(len(a)):
        x, y = a[row].astype(np.float64).ravel(), b[row].astype(np.float64).ravel()
        long_x, long_y = math.sqrt(float((x * x).sum())), math.sqrt(float((y * y).sum()))
        cosine = float((x * y).sum()) / max(long_x * long_y, 1e-300)
        angle = math.acos(min(1.0, max(-1.0, cosine)))
        if math.sin(angle) < 1e-6:  # the same direction, or the opposite: no arc is the shortest
            near, far = 1.0 - part, part
        else:
            length = (1.0 - part) * long_x + part * long_y
            near = math.sin((1.0 - part) * angle) / math.sin(angle) * length / long_x
            far = math.sin(part * angle) / math.sin(angle) * length / long_y
        result[row] = (near * x + far * y).reshape(a.shape[1:])
    return result


def _catmull_rom(before: Array, a: Array, b: Array, after: Array, t: float) -> Array:
    squared, cubed = t * t, t * t * t
    value = _f32(-0.5 * cubed + squared - 0.5 * t) * before
    value = value + _f32(1.5 * cubed - 2.5 * squared + 1.0) * a
    value = value + _f32(-1.5 * cubed + 2.0 * squared + 0.5 * t) * b
    return value + _f32(0.5 * cubed - 0.5 * squared) * after


def _b_spline(t: float) -> tuple[float, float, float, float]:
    """The four weights of a uniform cubic B-spline at t in [0, 1)."""
    return (
        (1.0 - t) ** 3 / 6.0,
        (3.0 * t**3 - 6.0 * t**2 + 4.0) / 6.0,
        (-3.0 * t**3 + 3.0 * t**2 + 3.0 * t + 1.0) / 6.0,
        t**3 / 6.0,
    )


def _positive(name: str, value: float) -> None:
    if not (isinstance(value, (int, float)) and 0 < value < math.inf):
        raise ArgumentError(name, repr(value), "a finite number above 0")
