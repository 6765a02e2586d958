"""A stream into a ring, steered by whoever reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from fastgan.errors import ArgumentError
from fastgan.realtime.ring.reader import RingReader
from fastgan.realtime.ring.writer import Asked, RingWriter
from fastgan.realtime.stream.buffers import Frame
from fastgan.realtime.stream.stats import Stats
from fastgan.realtime.stream.stream import Stream

log = logging.getLogger("fastgan")

#: Seconds between looks at what readers ask for while no frame comes, such as in a pause.
_LOOK = 0.02


def serve(stream: Stream, ring: RingWriter, frames: int | None = None) -> Stats:
    """Write a stream's frames to a ring, and do what its readers ask for, until either ends.

    What a reader asks for that the model does not have is logged, and changes nothing.

    Args:
        frames: how many to write; None for no end.
    """
    before = Asked(ring.seed, None, None, None, False, 0)
    while frames is None or frames > 0:
        asked = ring.asked()
        if asked is not None:
            _steer(stream, ring, before, asked)
            before = asked
        try:
            frame = stream.take(timeout=_LOOK)
        except StopIteration:
            break
        if frame is None:
            continue
        put(ring, frame)
        frames = None if frames is None else frames - 1
    return stream.stats


def put(ring: RingWriter, frame: Frame) -> None:
    """Write one frame of a stream to a ring."""
    picture = frame.images[0] if ring.shape.format == "float32" else frame.picture
    ring.write(picture, frame.index, frame.produced_ns)


def pictures(reader: RingReader) -> Iterator[NDArray[Any]]:
    """The newest frames of a ring, uint8 [H, W, C]: a `source` for image-to-image models."""
    while True:
        frame = reader.next(timeout=3600.0)
        if frame is not None:
            yield frame.pixels


def _steer(stream: Stream, ring: RingWriter, before: Asked, asked: Asked) -> None:
    """Change what differs from what was asked for before."""
    if asked.seed != before.seed:
        _try(stream.set, seed=asked.seed)
        ring.seed = asked.seed
    if asked.speed is not None and asked.speed != before.speed:
        _try(stream.set, speed=asked.speed)
    if asked.truncation != before.truncation:
        _try(stream.set, truncation=asked.truncation)
    if asked.label is not None and asked.label != before.label:
        _try(stream.set, labels=asked.label)
    if asked.paused != before.paused:
        if asked.paused:
            stream.pause()
        else:
            stream.resume()
    if asked.steps:
        _try(stream.step, frames=asked.steps)


def _try(change: Callable[..., None], **values: Any) -> None:
    try:
        change(**values)
    except ArgumentError as error:
        log.warning("a reader asks for what can't be had: %s", error)
