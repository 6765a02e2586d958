"""Frames in shared memory, from one producer to any number of readers in other processes.

    with RingWriter("/faces", 256, 256, 3, fps=60) as ring:      # one process
        ring.write(image, index)                                 # uint8 [256, 256, 3]

    with RingReader("/faces") as ring:                           # any other, in any language
        frame = ring.next(timeout=1.0)

All of it is csrc/include/fastgan_frames.h, which other languages use as it is; docs/frames.md says
what is guaranteed, and why. Linux only.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgan.errors import ArgumentError, RingError
from fastgan.realtime.ring_words import (
    FORMATS,
    MISSING,
    STARTING,
    RingShape,
    bits,
    closed,
    explained,
    native,
    packed,
    taken,
    unpacked,
    whole,
)

if TYPE_CHECKING:
    from torch import Tensor

_ANY_LABEL = (1 << 64) - 1
_WORD = (1 << 64) - 1
#: Seconds in native code at a time, so that Ctrl-C and `close` come through.
_SLICE = 0.05
#: Seconds between looks for a ring that is not there.
_PAUSE = 0.001


@dataclass(frozen=True, slots=True)
class RingFrame:
    """A frame out of a ring.

    Attributes:
        pixels: [H, W, C], the reader's own copy.
        sequence: 1, 2, 3, ... as published.
        skipped: frames published between the one before and this one, which this reader missed.
        index: its number in the producer's walk.
        seed: the producer's when it was published.
        generation: 1, and one more for each producer that took over from a dead one.
        produced_ns, published_ns: nanoseconds of `time.monotonic_ns`, which all processes share.
    """

    pixels: NDArray[Any]
    sequence: int
    skipped: int
    index: int
    seed: int
    generation: int
    produced_ns: int
    published_ns: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What readers ask of the producer.

    Attributes:
        seed: of the walk.
        speed: frames of the walk per frame; None where what was asked is no finite number.
        truncation: None for none.
        label: a class; None for random ones.
        paused: whether to stand still.
        steps: single frames asked for since the last time.
    """

    seed: int
    speed: float | None
    truncation: float | None
    label: int | None
    paused: bool
    steps: int


def include_dir() -> Path:
    """The folder of fastgan_frames.h, for a C or C++ compiler's -I."""
    package = Path(__file__).parents[1]
    installed = package / "include"
    return installed if installed.is_dir() else package.parent / "csrc" / "include"


def check_free(name: str) -> None:
    """Say early what `RingWriter` would say later.

    Raises:
        ArgumentError: the name is not valid.
        RingError: a live producer or something else has it, or the native part was not built.
    """
    module = native()
    try:
        reader = module.FramesReader(name, None, False)
    except module.FramesError as error:
        free = ("no ring", "not ready", "damaged", "version")  # or stale, as the writer will see
        if error.args[0] in [module.FRAMES_ERRORS[kind] for kind in free]:
            return
        raise explained(error, name) from None
    if reader.alive:
        raise taken(name, reader.process)


class RingWriter:
    """The one producer of a ring: a sink for frames. Close it, or use it in a `with`.

    A ring that a dead producer left is taken over: where size and format are the same, its readers
    read on. No reader can make `write` wait.

    Args:
        name: "/" and 1 to 200 letters, digits, ".", "_" or "-".
        height, width, channels, format, range: as in `RingShape`.
        slots: frames in memory, 2 to 4096; a reader that falls so far behind loses frames.
        fps: frames per second intended, for readers to know.
        seed, speed, truncation, label: what the controls stand at.

    Raises:
        ArgumentError: an argument is out of range.
        RingError: a live producer or something else has the name, memory does not suffice, or the
            native part was not built.
    """

    def __init__(
        self,
        name: str,
        height: int,
        width: int,
        channels: int,
        *,
        format: str = "uint8",
        range: tuple[float, float] = (0.0, 255.0),
        slots: int = 4,
        fps: float | None = None,
        seed: int = 0,
        speed: float = 1.0,
        truncation: float | None = None,
        label: int | None = None,
    ) -> None:
        if format not in FORMATS:
            raise ArgumentError("format", repr(format), " or ".join(FORMATS))
        if fps is not None and not (math.isfinite(fps) and fps > 0):
            raise ArgumentError("fps", repr(fps), "a number above 0")
        module = native()
        self.name, self.shape = name, RingShape(height, width, channels, format, range)
        self.seed = seed
        self._lock = threading.Lock()  # a close must not meet a write half-way
        self._closed = False
        interval = 0 if fps is None else round(1e9 / fps)
        cut = math.nan if truncation is None else truncation
        try:
            self._writer = module.FramesWriter(
                name,
                packed(self.shape),
                whole("slots", slots),
                interval,
                seed & _WORD,
                speed,
                cut,
                _ANY_LABEL if label is None else label,
                False,
            )
        except module.FramesError as error:
            raise explained(error, name, self.shape, slots) from None

    @property
    def generation(self) -> int:
        """1, or one more than that of the dead producer whose ring this was."""
        return int(self._writer.generation)

    @property
    def took_over(self) -> bool:
        """Whether a dead producer's readers read on here."""
        return bool(self._writer.took_over)

    def write(
        self, frame: Tensor | NDArray[Any], index: int, produced_ns: int | None = None
    ) -> None:
        """Copy a frame into the ring, where readers find it at once.

        Args:
            frame: uint8 [H, W, C], or float32 [C, H, W], as the ring's format says.
            index: its number in the walk.
            produced_ns: when it was ready, by `time.monotonic_ns`; None for now.

        Raises:
            ArgumentError: the frame is of another size or type.
        """
        pixels = self._pixels(frame)
        when = time.monotonic_ns() if produced_ns is None else produced_ns
        with self._lock:
            if self._closed:
                raise closed(self.name)
            self._writer.write(pixels, index & _WORD, self.seed & _WORD, when)

    def asked(self) -> Asked | None:
        """What readers ask for, if any of them has since the last call."""
        with self._lock:
            if self._closed:
                raise closed(self.name)
            asked = self._writer.asked()
        if asked is None:
            return None
        seed, speed, truncation, label, paused, steps = asked
        return Asked(
            seed,
            speed if math.isfinite(speed) else None,
            truncation if math.isfinite(truncation) else None,
            None if label == _ANY_LABEL else label,
            paused,
            steps,
        )

    def close(self) -> None:
        """Tell the readers that it was the last frame, and remove the name."""
        with self._lock:
            self._closed = True
            self._writer.close()

    def __enter__(self) -> RingWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _pixels(self, frame: Any) -> NDArray[Any]:
        values = frame.detach().cpu().numpy() if hasattr(frame, "detach") else np.asarray(frame)
        shape, dtype = self.shape, FORMATS[self.shape.format][1]
        sizes = shape.sizes
        if shape.format == "float32":
            sizes = (shape.channels, shape.height, shape.width)
        if values.dtype != dtype or values.shape != sizes:
            found = f"{values.dtype} {list(values.shape)}"
            raise ArgumentError("frame", found, f"{dtype} {list(sizes)}")
        if shape.format == "float32":
            values = np.moveaxis(values, 0, 2)
        return np.ascontiguousarray(values)


class RingReader:
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

    def __init__(
        self,
        name: str,
        *,
        shape: RingShape | None = None,
        control: bool = False,
        timeout: float = 0.0,
    ) -> None:
        self.name = name
        self._control = control
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
            RingError: a new producer's frames are of another shape.
        """
        module, limit = native(), time.monotonic() + timeout
        dtype = FORMATS[self.shape.format][1]
        pixels: NDArray[Any] = np.empty(self.shape.sizes, dtype)
        while True:
            left = max(0.0, limit - time.monotonic())
            try:
                with self._lock:
                    found = self._live().next(pixels, every, int(min(left, _SLICE) * 1e9))
            except module.FramesError as error:
                if error.args[0] != module.FRAMES_ERRORS["ended"]:
                    raise explained(error, self.name, self.shape) from None
                if not self._reopen(limit):
                    return None
                continue
            if found is not None:
                return RingFrame(pixels, *found)
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
            RingError: the reader was made without `control`.
        """
        module = native()
        words = {
            "seed": seed,
            "speed": None if speed is None else bits(speed),
            "truncation": None if truncation is None else bits(truncation),
            "label": label,
            "paused": None if paused is None else int(paused),
            "steps": steps or None,
        }
        try:
            with self._lock:
                for control, value in words.items():
                    if value is not None:
                        self._live().ask(module.FRAMES_CONTROLS[control], value & _WORD)
        except module.FramesError as error:
            raise explained(error, self.name) from None

    def close(self) -> None:
        """Let go of the ring."""
        with self._lock:
            self._closed = True
            self._reader.close()

    def __enter__(self) -> RingReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
                return module.FramesReader(self.name, wanted, self._control)
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
            self._live().close()
            self._reader = reader
        return True
