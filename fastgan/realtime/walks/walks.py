"""Latent walks: which latents frame k shows. Small frozen objects that are put together.

    walk = SeedPath((0, 1, 2), frames=60, loop=True)
    walk.at(120, 4, space)              # frames 120 to 123: float32 [4, batch, *shape]

A walk is a function of the frame alone: it may begin anywhere, run at any speed and be recorded
twice, and gives the same numbers, bit for bit. All that is random comes from `fastgan.latents`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.realtime.walks.space import DRIFT_STREAM, ORBIT_STREAM, Array, Space, normals, of_seed

INTERPOLATIONS = ("spherical", "linear", "cubic")
#: No walk goes further than this, either way: beyond it float64 can't tell two frames apart.
FARTHEST = 2.0**52


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
        listed = self.seeds if arguments.is_several(self.seeds) else [self.seeds]
        settle(self, "seeds", arguments.each("seeds", listed, 0, arguments.LARGEST_SEED))
        if not self.seeds:
            raise ArgumentError("seeds", "none", "at least one")
        settle(self, "frames", positive("frames", self.frames))
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
        along = bounded(position / self.frames)
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
            return space.confine((single(1.0 - part) * a + single(part) * b)[None])[0]
        return space.confine(_slerp(a, b, part)[None])[0]

    def _key(self, index: int, space: Space) -> Array:
        if self.loop:
            index %= len(self.seeds)
        else:
            index = min(max(index, 0), len(self.seeds) - 1)
        return of_seed(self.seeds[index], space, self.rng)


@dataclass(frozen=True)
class _OfNormals(Walk):
    """What is made of the normal numbers of a seed, frame by frame."""

    seed: int = 0
    frames: float = 60.0

    def __post_init__(self) -> None:
        settle(self, "seed", arguments.whole("seed", self.seed, 0, arguments.LARGEST_SEED))
        settle(self, "frames", positive("frames", self.frames))

    def reseeded(self, seed: int) -> Walk:
        """See `Walk.reseeded`."""
        return replace(self, seed=seed)

    def latents(self, positions: NDArray[np.float64], space: Space) -> Array:
        """See `Walk.latents`."""
        return space.from_normal(np.stack([self._one(p, space) for p in positions]))

    @abstractmethod
    def _one(self, position: float, space: Space) -> Array:
        """One frame's, [batch, *shape], as if they were normal."""


@dataclass(frozen=True)
class Drift(_OfNormals):
    """Endless smooth noise: never the same again, always of the model's own distribution.

    Normals on a lattice `frames` apart, blended by a cubic B-spline whose weights are scaled so
    that every frame has unit variance: a smooth relative of the Ornstein-Uhlenbeck process that
    needs no history, so frame k costs the same for every k.

    Args:
        seed: of the lattice.
        frames: after about so many frames a latent is another one.
    """

    def _one(self, position: float, space: Space) -> Array:
        along = bounded(max(0.0, position) / self.frames)
        whole = math.floor(along)
        weights = _b_spline(along - whole)
        scale = 1.0 / math.sqrt(sum(w * w for w in weights))
        lattice = [normals(self.seed, whole + i, space, DRIFT_STREAM) for i in range(4)]
        value = single(weights[0] * scale) * lattice[0]
        for weight, drawn in zip(weights[1:], lattice[1:], strict=True):
            value = value + single(weight * scale) * drawn
        return value


@dataclass(frozen=True)
class Orbit(_OfNormals):
    """A perfect loop: after `frames` frames it is back, position and speed alike.

    A sum of circles: sqrt(1 / harmonics) * sum of cos(h t) a_h + sin(h t) b_h with independent
    normals a_h, b_h, which is itself standard normal at every t.

    Args:
        seed: of the circles.
        frames: once around.
        harmonics: how many circles, the h-th turning h times; more is livelier.
    """

    frames: float = 240.0
    harmonics: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "harmonics", arguments.whole("harmonics", self.harmonics, 1, 64))

    @property
    def period(self) -> float | None:
        """See `Walk.period`."""
        return self.frames

    def _one(self, position: float, space: Space) -> Array:
        turn = 2.0 * math.pi * (math.fmod(bounded(position), self.frames) / self.frames)
        value = np.zeros((space.batch, *space.shape), np.float32)
        scale = math.sqrt(1.0 / self.harmonics)
        for h in range(1, self.harmonics + 1):
            a = normals(self.seed, 2 * h, space, ORBIT_STREAM)
            b = normals(self.seed, 2 * h + 1, space, ORBIT_STREAM)
            value = value + single(scale * math.cos(h * turn)) * a
            value = value + single(scale * math.sin(h * turn)) * b
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
        for position in map(bounded, positions):
            whole = math.floor(position)
            part = position - whole
            first, second = (
                (i % count if self.loop else min(max(i, 0), count - 1)) for i in (whole, whole + 1)
            )
            a = values[first]
            found.append(a if not part else single(1.0 - part) * a + single(part) * values[second])
        return np.stack(found)


def walk_of(value: Any, seed: int) -> Walk:
    """The walk that a caller means: a walk, seeds, an array of latents; None is a drift.

    Raises:
        ArgumentError: it is none of these.
    """
    if value is None:
        return Drift(seed)
    if isinstance(value, Walk):
        return value
    if arguments.is_several(value) and getattr(value, "ndim", 1) == 1 and len(value):
        return SeedPath(value)
    if isinstance(value, Tensor):
        return Rows(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return Rows(value)
    needed = "a walk of fastgan.realtime, a list of seeds, or an array [frames, *shape]"
    raise ArgumentError("latents", type(value).__name__, needed)


# Numbers -----------------------------------------------------------------------------------------


def single(value: float) -> np.float32:
    return np.float32(value)


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
    value = single(-0.5 * cubed + squared - 0.5 * t) * before
    value = value + single(1.5 * cubed - 2.5 * squared + 1.0) * a
    value = value + single(-1.5 * cubed + 2.0 * squared + 0.5 * t) * b
    return value + single(0.5 * cubed - 0.5 * squared) * after


def _b_spline(t: float) -> tuple[float, float, float, float]:
    """The four weights of a uniform cubic B-spline at t in [0, 1)."""
    return (
        (1.0 - t) ** 3 / 6.0,
        (3.0 * t**3 - 6.0 * t**2 + 4.0) / 6.0,
        (-3.0 * t**3 + 3.0 * t**2 + 3.0 * t + 1.0) / 6.0,
        t**3 / 6.0,
    )


def bounded(position: float) -> float:
    """A position on a walk, at most `FARTHEST` from its start; where there is none, the start."""
    return 0.0 if math.isnan(position) else min(max(position, -FARTHEST), FARTHEST)


def positive(name: str, value: float) -> float:
    return arguments.number(name, value, above=0, needed="a finite number above 0")


def settle(walk: Walk, field: str, value: Any) -> None:
    """Set a field of a frozen walk, once: to Python's own number for whatever was given."""
    object.__setattr__(walk, field, value)
