"""Frames in shared memory: what writer and reader share, and the native part's errors in words.

All of it is csrc/include/fastgan_frames.h, which other languages use as it is; docs/frames.md says
what is guaranteed, and why. Linux only.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.errors import ArgumentError, RingError
from fastgan.host import arguments

WORD = (1 << 64) - 1
ANY_LABEL = WORD
DEVICES = ("cpu", "cuda")
FORMATS: dict[str, tuple[int, np.dtype[Any]]] = {
    "uint8": (1, np.dtype(np.uint8)),
    "float32": (2, np.dtype(np.float32)),
}


@dataclass(frozen=True, slots=True)
class RingShape:
    """What frames a ring holds.

    Attributes:
        height, width: pixels.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        format: "uint8", or "float32" for values in the model's own range.
        range: the values of black and white.
        device: "cpu", where frames lie in shared memory, or "cuda", on a GPU.
    """

    height: int
    width: int
    channels: int
    format: str = "uint8"
    range: tuple[float, float] = (0.0, 255.0)
    device: str = "cpu"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.height, self.width, self.channels

    def __str__(self) -> str:
        where = "" if self.device == "cpu" else " on a GPU"
        return f"{self.width}x{self.height} pixels of {self.channels} x {self.format}{where}"


def include_dir() -> Path:
    """The folder of fastgan_frames.h, for a C or C++ compiler's -I."""
    return Path(__file__).parents[2] / "include"


def named(name: Any) -> str:
    """The name of a ring; what else is wrong with it the native part says.

    Raises:
        ArgumentError: it is no text.
    """
    if not isinstance(name, str):
        raise _bad_name(name)
    return name


# Errors -------------------------------------------------------------------------------------------

MISSING, STARTING = "no ring of this name", "a producer that is just starting"


def native() -> Any:
    """The compiled module.

    Raises:
        RingError: it was not built, or this is not Linux.
    """
    from fastgan.host.native import _native

    if not hasattr(_native, "FramesReader"):
        found = "a fastgan without its native part"
        needed = "one that was installed on Linux, with a C++ compiler"
        raise RingError("shared memory ring", found, needed, "see 'fastgan doctor'")
    return _native


def closed(name: str) -> RingError:
    """What a closed writer or reader raises."""
    return RingError(f"ring {name!r}", "closed already", "an open one")


def taken(name: str, process: int | None) -> RingError:
    """What a second producer raises."""
    found = "a producer that is running" + (f", process {process}" if process else "")
    return RingError(f"ring {name!r}", found, "a free name", "end it, or take another name")


def _bad_name(name: Any) -> ArgumentError:
    needed = "'/' and 1 to 200 letters, digits, '.', '_' or '-', such as /fastgan"
    return ArgumentError("name of a ring", repr(name), needed)


def explained(
    error: Any, name: str, shape: RingShape | None = None, slots: int = 0
) -> RingError | ArgumentError:
    """The error of the native part as one that says what to do."""
    module = native()
    code, text, number = error.args
    kinds: dict[int, str] = {value: key for key, value in module.FRAMES_ERRORS.items()}
    kind, where = kinds[code], f"ring {name!r}"
    if kind == "bad name":
        return _bad_name(name)
    if kind == "bad shape":
        most = 4096 if shape is None or shape.device == "cpu" else 32
        needed = f"1 to 65536 pixels a side, 1 to 4 channels, at most 2 GiB, 2 to {most} slots"
        return ArgumentError(where, f"{shape} in {slots} slots", needed)
    if kind == "no ring":
        instead = f"start one: fastgan stream MODEL --shm {name}"
        return RingError(where, MISSING, "a producer that is running", instead)
    if kind == "not ready":
        return RingError(where, STARTING, "one that has started", "try again")
    if kind == "taken":
        return taken(name, _process_of(module, name))
    if kind == "shape":
        found = _shape_of(module, name)
        return RingError(where, f"frames of {found}", str(shape))
    if kind == "version":
        needed = "the version of this fastgan"
        instead = "producer and readers must be of one version"
        return RingError(where, "another version of the layout", needed, instead)
    if kind == "not a ring":
        found = "shared memory of another program"
        return RingError(where, found, "a ring of frames", "take another name")
    if kind == "on gpu":
        found = "frames on a GPU"
        return RingError(where, found, "frames in shared memory", "read it with CudaRingReader")
    if kind == "read only":
        return RingError(where, "a reader without control", "RingReader(name, control=True)")
    if kind == "system":
        if number in (errno.ENOSPC, errno.ENOMEM):
            instead = "take fewer slots, or enlarge /dev/shm (docker run --shm-size)"
            return RingError(where, os.strerror(number), "more memory in /dev/shm", instead)
        return RingError(where, os.strerror(number), "the right to open it")
    return RingError(where, text, "a whole ring")


def _process_of(module: Any, name: str) -> int | None:
    try:
        return int(module.FramesReader(name, None, False, True).process)
    except module.FramesError:  # gone, or not readable
        return None


def _shape_of(module: Any, name: str) -> str:
    try:
        return str(unpacked(module.FramesReader(name, None, False, True).shape))
    except module.FramesError:
        return "another size"


# Words -------------------------------------------------------------------------------------------


def packed(shape: RingShape) -> tuple[int, int, int, int, float, float, int]:
    width, height = whole("width", shape.width), whole("height", shape.height)
    sizes = (width, height, whole("channels", shape.channels))
    return (*sizes, FORMATS[shape.format][0], *shape.range, DEVICES.index(shape.device))


def unpacked(packed: tuple[int, int, int, int, float, float, int]) -> RingShape:
    width, height, channels, number, low, high, device = packed
    format = next(name for name, (known, _) in FORMATS.items() if known == number)
    return RingShape(height, width, channels, format, (low, high), DEVICES[device])


def whole(name: str, value: int) -> int:
    return arguments.whole(name, value, 1, (1 << 31) - 1)


def bits(value: float) -> int:
    return int(np.float64(value).view(np.uint64))
