"""The producer of frames in shared memory.

with RingWriter("/faces", 256, 256, 3, fps=60) as ring:
    ring.write(image, index)                                 # uint8 [256, 256, 3]
    asked = ring.asked()                                     # what readers want
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.host.closing import Closing
from fastgan.realtime.ring.words import (
    ANY_LABEL,
    FORMATS,
    WORD,
    RingShape,
    closed,
    explained,
    named,
    native,
    packed,
    taken,
    whole,
)

if TYPE_CHECKING:
    from torch import Tensor


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


def check_free(name: str) -> None:
    """Say early what `RingWriter` would say later.

    Raises:
        ArgumentError: the name is not valid.
        RingError: a live producer or something else has it, or the native part was not built.
    """
    module = native()
    try:
        reader = module.FramesReader(name, None, False, True)
    except module.FramesError as error:
        free = ("no ring", "not ready", "damaged", "version")  # or stale, as the writer will see
        if error.args[0] in [module.FRAMES_ERRORS[kind] for kind in free]:
            return
        raise explained(error, name) from None
    if reader.alive:
        raise taken(name, reader.process)


class RingWriter(Closing):
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

    _DEVICE = "cpu"

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
        if fps is not None:
            fps = arguments.number("fps", fps, 1e-9, needed="a number above 0")
        speed = arguments.number("speed", speed)
        seed = arguments.whole("seed", seed, 0, arguments.LARGEST_SEED)
        slots = whole("slots", slots)
        cut = math.nan if truncation is None else arguments.number("truncation", truncation)
        if label is not None:
            label = arguments.whole("label", label, 0, ANY_LABEL - 1)
        self.name, self.seed = named(name), seed
        self.shape = RingShape(height, width, channels, format, range, self._DEVICE)
        module = native()
        self._lock = threading.Lock()  # a close must not meet a write half-way
        self._closed = False
        interval = 0 if fps is None else round(1e9 / fps)
        on_gpu = self._prepare(slots)
        try:
            self._writer = module.FramesWriter(
                name,
                packed(self.shape),
                slots,
                interval,
                seed & WORD,
                speed,
                cut,
                ANY_LABEL if label is None else label,
                False,
                on_gpu,
            )
        except module.FramesError as error:
            raise explained(error, name, self.shape, slots) from None

    def _prepare(self, slots: int) -> tuple[bytes, int, int, bytes] | None:
        """Where the frames lie, if not in shared memory: as `fg_cuda` has it."""
        return None

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
            self._writer.write(pixels, index & WORD, self.seed & WORD, when)

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
            None if label == ANY_LABEL else label,
            paused,
            steps,
        )

    def close(self) -> None:
        """Tell the readers that it was the last frame, and remove the name."""
        with self._lock:
            self._closed = True
            self._writer.close()

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
