"""What may be changed while a stream runs, from any thread, between one frame and the next."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import arguments, forks
from fastgan.inputs import labels as class_labels
from fastgan.latents.sampling import Sampling
from fastgan.model.signature import Input, Signature
from fastgan.realtime.walks.space import Space
from fastgan.realtime.walks.walks import FARTHEST, Walk, bounded

#: The fastest walk, in frames of the walk per frame shown, and the longest step.
FASTEST = 2.0**20
LONGEST_STEP = 2**31


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """One state of the controls; the producer takes a whole one before each frame.

    Attributes:
        walk: where the latents come from; None for a model that takes none.
        space: with the truncation.
        label: the label input, or None for the one that the stream began with.
        speed: frames of the walk per frame shown; may be negative.
        base: (index, position): frame `index` is at `position`, and later ones go on from there.
        paused: whether the walk stands still.
        version: a new one for each change.
    """

    walk: Walk | None
    space: Space | None
    batch: int
    label: Tensor | None = None
    speed: float = 1.0
    base: tuple[int, float] = (0, 0.0)
    paused: bool = False
    version: int = 0

    def position(self, index: int) -> float:
        """Where on the walk frame `index` is."""
        if self.paused:
            return self.base[1]
        return bounded(self.base[1] + (index - self.base[0]) * self.speed)


class Controls:
    """Holds the `Settings`. Every change is checked where it is asked for, not in the producer."""

    def __init__(self, settings: Settings, signature: Signature) -> None:
        self._settings, self._signature = settings, signature
        self._lock = forks.renewed(threading.Lock())
        self._next = settings.base[0]
        self.wake: Callable[[], None] = lambda: None

    @property
    def settings(self) -> Settings:
        """As they are now."""
        return self._settings

    def advance(self, index: int) -> tuple[Settings, float]:
        """The producer's: the settings for frame `index`, and its position."""
        with self._lock:
            self._next = index + 1
            return self._settings, self._settings.position(index)

    def change(
        self,
        *,
        seed: int | None = None,
        walk: Walk | None = None,
        speed: float | None = None,
        position: float | None = None,
        truncation: float | Literal[False] | None = False,
        labels: Any = None,
        paused: bool | None = None,
        step: int = 0,
    ) -> None:
        """Change some; None, and False for `truncation`, leave one as it is."""
        label = None if labels is None else self.label(labels)
        if speed is not None:
            needed = f"a number from {-FASTEST:g} to {FASTEST:g}"
            speed = arguments.number("speed", speed, -FASTEST, FASTEST, needed=needed)
        if position is not None:
            needed = f"a number from {-FARTHEST:g} to {FARTHEST:g}"
            position = arguments.number("position", position, -FARTHEST, FARTHEST, needed=needed)
        needed = f"a whole number of frames, at most {LONGEST_STEP} either way"
        step = arguments.whole("step", step, -LONGEST_STEP, LONGEST_STEP, needed)
        seed = None if seed is None else arguments.whole("seed", seed, 0, arguments.LARGEST_SEED)
        with self._lock:
            settings = self._settings
            here = settings.position(self._next)
            if truncation is not False:
                space = Space.of(self._latent("truncation"), settings.batch, truncation)
                settings = replace(settings, space=space)
            if walk is not None:
                self._latent("walk")
                assert settings.space is not None
                walk.at(0, 1, settings.space)  # what does not fit is said here
                settings = replace(settings, walk=walk)
            if seed is not None:
                self._latent("seed")
                assert settings.walk is not None
                settings = replace(settings, walk=settings.walk.reseeded(seed))
            if label is not None:
                settings = replace(settings, label=label)
            settings = replace(
                settings,
                speed=settings.speed if speed is None else speed,
                paused=settings.paused if paused is None else bool(paused),
                version=settings.version + 1,
            )
            if step or any(x is not None for x in (speed, paused, position)):
                here = here if position is None else position
                here = bounded(here + step * settings.speed)
                settings = replace(settings, base=(self._next, here))
            self._settings = settings
        self.wake()

    def _latent(self, name: str) -> Input:
        latent = self._signature.latent
        if latent is None:
            raise ArgumentError(name, "a model without a latent", "a model that has one")
        return latent

    def label(self, labels: Any) -> Tensor:
        """The label input of a frame: a class, one for each image, or weights by class.

        Weights mix classes where the model takes floats; where it takes an index, the heaviest
        class is taken.

        Raises:
            ArgumentError: the model has no such class, or none at all.
        """
        port, batch = self._signature.label, self._settings.batch
        if port is None:
            raise ArgumentError("labels", "a model without classes", "labels=None")
        names, device = self._signature.class_names, torch.device("cpu")
        if not isinstance(labels, Mapping):
            return class_labels.resolve(labels, batch, port, names, Sampling((0,) * batch), device)
        classes, needed = list(labels), "finite weights of at least 0, not all 0"
        parts = [arguments.number("labels", labels[c], 0, 1e30, needed=needed) for c in classes]
        weights = torch.tensor(parts)
        if not len(weights) or not 0 < float(weights.sum()) < math.inf:
            raise ArgumentError("labels", repr(dict(labels)), needed)
        each = [_resolve(name, port, names, device) for name in classes]
        if port.dtype.startswith("float"):
            mixed = sum(w * one for w, one in zip(weights / weights.sum(), each, strict=True))
            assert isinstance(mixed, Tensor)
            return mixed.expand(batch, -1).contiguous()
        heaviest = each[int(weights.argmax())]
        return heaviest.expand(batch, *heaviest.shape[1:]).contiguous()


def _resolve(label: Any, port: Any, names: Iterable[str], device: torch.device) -> Tensor:
    return class_labels.resolve(label, 1, port, tuple(names), Sampling(), device)
