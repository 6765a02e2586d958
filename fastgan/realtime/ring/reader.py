"""A reader of frames in shared memory, in a process of its own. It does without torch.

with RingReader("/faces") as ring:
    frame = ring.next(timeout=1.0)
    frame.pixels                                             # uint8 [256, 256, 3]
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgan.errors import RingError
from fastgan.host import arguments
from fastgan.host.closing import Closing
from fastgan.realtime.ring.words import (
    FORMATS,
    MISSING,
    STARTING,
    WORD,
    RingShape,
    bits,
    closed,
    explained,
    named,
    native,
    packed,
    unpacked,
)

#: What a label, or a number of steps, may be.
_MOST = (1 << 63) - 1
#: Seconds in native code at a time, so that Ctrl-C and `close` come through.
_SLICE = 0.05
#: Seconds between looks for a ring that is not there.
_PAUSE = 0.001


@dataclass(frozen=True, slots=True)
class RingFrame:
    """A frame out of a ring.

    Attributes:
        pixels: [H, W, C], the reader's own copy; of a ring on a GPU, a tensor there.
        sequence: 1, 2, 3, ... as published.
        skipped: frames published between the one before and this one, which this reader missed.
        index: its number in the producer's walk.
        seed: the producer's when it was published.
        generation: 1, and one more for each producer that took over from a dead one.
        produced_ns, published_ns: nanoseconds of `time.monotonic_ns`, which all processes share.
    """

    pixels: Any
    sequence: int
    skipped: int
    index: int
    seed: int
    generation: int
    produced_ns: int
    published_ns: int


class RingReader(Closing):
    """One of a ring's readers. Close it, or use it in a `with`.

    When its producer dies, `next` waits for another: one that takes over with the same size and
    format is read on.

    Args:
        name: the ring's.
        shape: what is needed; None for whatever the ring holds.
        control: ask for the right to `ask`.
        timeout: seconds to wait for a ring of this name.

    Raises:
        ArgumentError: the name is not valid.
        RingError: there is no ring, or one of another version or shape.
    """

    _ON_GPU = False

    def __init__(
        self,
        name: str,
        *,
        shape: RingShape | None = None,
        control: bool = False,
        timeout: float = 0.0,
    ) -> None:
        self.name = named(name)
        self._control = control
        timeout = arguments.number("timeout", timeout, finite=False)
        self._lock = threading.Lock()
        self._closed = False
        self._reader = self._open(shape, time.monotonic() + timeout)
        self.shape = unpacked(self._reader.shape)

    @property
    def slots(self) -> int:
        """Frames in memory."""
        return int(self._reader.slots)

    @property
    def fps(self) -> float | None:
        """Frames per second that the producer intends; None for as fast as it goes."""
        with self._lock:
            interval = self._live().interval_ns
        return 1e9 / interval if interval else None

    @property
    def alive(self) -> bool:
        """Whether the producer is."""
        with self._lock:
            return bool(self._live().alive)

    def next(self, timeout: float = 1.0, *, every: bool = False) -> RingFrame | None:
        """The newest frame that was not delivered yet; None if there is none within `timeout` s.

        Args:
            timeout: seconds to wait for it, for a new producer too.
            every: each frame in its turn instead, as far as the ring still holds them.

        Raises:
            ArgumentError: the timeout is no number.
            RingError: a new producer's frames are of another shape.
        """
        pixels: NDArray[Any] = np.empty(self.shape.sizes, FORMATS[self.shape.format][1])
        found = self._next(timeout, lambda ns: self._live().next(pixels, every, ns))
        return None if found is None else RingFrame(pixels, *found)

    def _next(self, timeout: float, take: Callable[[int], Any]) -> Any:
        """What `take` finds within so many ns at a time, on the producer's ring of the moment."""
        limit = time.monotonic() + arguments.number("timeout", timeout, finite=False)
        module = native()
        while True:
            left = max(0.0, limit - time.monotonic())
            try:
                with self._lock:
                    found = take(int(min(left, _SLICE) * 1e9))
            except module.FramesError as error:
                if error.args[0] != module.FRAMES_ERRORS["ended"]:
                    raise explained(error, self.name, self.shape) from None
                if not self._reopen(limit):
                    return None
                continue
            if found is not None:
                return found
            if time.monotonic() >= limit:
                return None

    def ask(
        self,
        *,
        seed: int | None = None,
        speed: float | None = None,
        truncation: float | None = None,
        label: int | None = None,
        paused: bool | None = None,
        steps: int = 0,
    ) -> None:
        """Ask the producer for something else from now on; what is not given stays.

        Args:
            seed, speed, paused, steps: as in `Asked`.
            truncation: NaN for none.
            label: a class, or -1 for random ones.

        Raises:
            ArgumentError: what is asked for makes no sense.
            RingError: the reader was made without `control`.
        """
        module, words = native(), {}
        if seed is not None:
            words["seed"] = arguments.whole("seed", seed, 0, arguments.LARGEST_SEED)
        if speed is not None:
            words["speed"] = bits(arguments.number("speed", speed, finite=False))
        if truncation is not None:
            none = not arguments.is_several(truncation) and truncation != truncation
            cut = math.nan if none else arguments.number("truncation", truncation, finite=False)
            words["truncation"] = bits(cut)
        if label is not None:
            words["label"] = arguments.whole("label", label, -1, _MOST)
        if paused is not None:
            words["paused"] = arguments.flag("paused", paused)
        if count := arguments.whole("steps", steps, 0, _MOST):
            words["steps"] = count
        try:
            with self._lock:
                for control, value in words.items():
                    self._live().ask(module.FRAMES_CONTROLS[control], value & WORD)
        except module.FramesError as error:
            raise explained(error, self.name) from None

    def close(self) -> None:
        """Let go of the ring."""
        with self._lock:
            self._closed = True
            self._leave()
            self._reader.close()

    def _live(self) -> Any:
        if self._closed:
            raise closed(self.name)
        return self._reader

    def _open(self, shape: RingShape | None, limit: float) -> Any:
        module = native()
        wait = [module.FRAMES_ERRORS[key] for key in ("no ring", "not ready")]
        wanted = None if shape is None else packed(shape)
        while True:
            try:
                return module.FramesReader(self.name, wanted, self._control, self._ON_GPU)
            except module.FramesError as error:
                if error.args[0] not in wait or time.monotonic() >= limit:
                    raise explained(error, self.name, shape) from None
            time.sleep(_PAUSE)

    def _reopen(self, limit: float) -> bool:
        """Find the ring that has taken the place of one that ended."""
        try:
            reader = self._open(self.shape, limit)
        except RingError as error:
            if error.found in (MISSING, STARTING):
                return False
            raise
        with self._lock:
            self._leave()
            self._live().close()
            self._reader = reader
        return True

    def _leave(self) -> None:
        """This ring is about to be let go."""
