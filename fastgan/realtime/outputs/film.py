"""A video file that is read: its frames, when each is shown, and how it is meant to look (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import files
from fastgan.realtime.outputs.video import CODECS, Look, reason, the_av

#: What is taken for a video by its name; a .gif is a picture.
SUFFIXES = (
    *(suffix for suffix in CODECS if suffix != ".gif"),
    *(".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".flv", ".wmv", ".ogv", ".3gp"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame as it is shown.

    Attributes:
        at: when, in `Film.tick`s after the first one.
        image: uint8 [H, W, 3], upright.
    """

    at: int
    image: Tensor


class Film:
    """A video file's pictures, in order; use it as a context.

    Attributes:
        tick: seconds, the unit of time.
        rate: frames a second, on average.
        count: how many frames there are, by what the file says; 0 where it does not.
        begins: seconds from the file's zero to its first frame; known with that.
        look: colours and the shape of its pixels.

    Raises:
        ArgumentError: no video, or one that can't be read.
        BackendError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        av = the_av()
        self.path = path
        try:
            files.open_plain(path).close()  # or it says what is wrong with the file as such
            self._container = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise ArgumentError(str(path), reason(error), "a video") from None
        if not self._container.streams.video:
            self._container.close()
            raise ArgumentError(str(path), "no pictures in it", "a video")
        stream: Any = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self._stream, context = stream, stream.codec_context
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.tick = Fraction(stream.time_base or 1 / self.rate)
        seconds = stream.duration * self.tick if stream.duration else Fraction(0)
        self.count = int(stream.frames or seconds * self.rate)
        self.begins = 0.0
        self.look = Look(
            context.colorspace,
            context.color_primaries,
            context.color_trc,
            context.sample_aspect_ratio,
        )

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *raised: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Shown]:
        """The frames.

        Raises:
            ArgumentError: the file is damaged; what was whole before that has been given.
        """
        first, last = None, -1
        decoded = self._container.decode(self._stream)
        while True:
            try:
                frame = next(decoded, None)
                image = None if frame is None else frame.to_ndarray(format="rgb24")
            except (the_av().error.FFmpegError, OSError) as error:
                found = f"{reason(error)}, {float((last + 1) * self.tick):.2f} s after its start"
                raise ArgumentError(str(self.path), found, "a whole video") from None
            if frame is None or image is None:
                return
            if first is None:
                first = frame.pts or 0
                self.begins = float(first * self.tick)
            step = round(1 / self.rate / self.tick)
            at = last + step if frame.pts is None else frame.pts - first
            last = max(at, last + 1)  # never back, whatever the file says
            # Degrees by which it is to be turned to the left, as a phone notes how it was held.
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            if turns:
                image = np.ascontiguousarray(np.rot90(image, turns))
            yield Shown(last, torch.from_numpy(image))
