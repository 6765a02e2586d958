"""Stream: frames on time, from a thread that renders ahead."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterable
from time import monotonic_ns
from typing import Any, Protocol

import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host.closing import Closing
from fastgan.realtime.stream.buffers import Buffers, Frame
from fastgan.realtime.stream.controls import Controls
from fastgan.realtime.stream.renderers import ImageRenderer, Renderer
from fastgan.realtime.stream.stats import Stats
from fastgan.realtime.walks.walks import Walk

log = logging.getLogger("fastgan")

#: A source that does not come back is left alone after so many seconds.
_SOURCE_SECONDS = 1.0


class Sink(Protocol):
    """Where frames go: a file, a ring in shared memory, a texture, a network."""

    def write(self, frame: Tensor, index: int, produced_ns: int) -> None:
        """Take a picture, uint8 [H, W, C]; its memory is used again after this call."""

    def close(self) -> None:
        """No more will come."""


class Stream(Closing):
    """Frames, one after the other. Made by `Generator.stream`; close it, or use it in a `with`.

    The clock and the rendering thread start with the first frame that is asked for. One thread may
    take frames; every other method may be called from any.
    """

    def __init__(
        self,
        renderer: Renderer,
        frames: list[Frame],
        *,
        fps: float | None,
        policy: str,
        first: int,
        last: int | None,
        source: Iterable[Any] | None,
    ) -> None:
        paced = not isinstance(renderer, ImageRenderer)  # images set the pace themselves
        self._renderer = renderer
        self._buffers = Buffers(frames, policy == "newest", held=paced)
        renderer.controls.wake = self._buffers.wake
        loop = _Loop(
            renderer,
            self._buffers,
            None if fps is None else round(1e9 / fps),
            paced,
            policy == "newest",
            1 if policy == "newest" else len(frames) - 1,  # fresh, or steady
            first,
            last,
        )
        self._threads = [threading.Thread(target=loop.run, name="fastgan-stream", daemon=True)]
        self._feeder: threading.Thread | None = None
        if source is not None and isinstance(renderer, ImageRenderer):
            self._feeder = threading.Thread(
                target=renderer.pull, args=(source,), name="fastgan-source", daemon=True
            )
        self._started: int | None = None  # the process whose threads run
        self.fps = fps
        # Neither thread refers to the stream, so one that is forgotten is closed all the same.
        self._close = weakref.finalize(
            self, _close, renderer, self._buffers, self._threads, self._feeder
        )

    # Frames -------------------------------------------------------------------------------------

    def take(self, timeout: float | None = None) -> Frame | None:
        """The next frame, or None where there is none within `timeout` seconds.

        It is yours until the next call.

        Raises:
            StopIteration: there are no more.
            ArgumentError: its threads run in the process that this one was forked from.
        """
        if self._started is None and not self._buffers.closed:
            self._started = os.getpid()
            for thread in (*self._threads, self._feeder):
                if thread is not None:
                    thread.start()
        if self._started not in (None, os.getpid()):
            found = f"one whose threads run in process {self._started}, of which this is a child"
            raise ArgumentError("stream", found, "a stream that this process has opened")
        return self._buffers.take(timeout)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Frame:
        frame = self.take()
        assert frame is not None
        return frame

    def into(self, *sinks: Sink, frames: int | None = None) -> Stats:
        """Write frames to sinks until there are no more, or so many are written.

        The sinks are left open.
        """
        while frames is None or frames > 0:
            try:
                frame = self.take()
            except StopIteration:
                break
            assert frame is not None
            for sink in sinks:
                sink.write(frame.picture, frame.index, frame.produced_ns)
            frames = None if frames is None else frames - 1
        return self.stats

    def feed(self, image: Any, timeout: float | None = None, **arguments: Any) -> bool:
        """Give an image-to-image model its next frame, uint8 [H, W, C]; it is copied.

        With the policy "newest" this never waits: a full queue lets go of its oldest frame, which
        is counted. With "every" it waits for room.

        Args:
            arguments: of `Generator.__call__` for this frame, such as its mask; those that the
                stream was opened with hold for the others. They are not copied.

        Returns:
            Whether there was room within `timeout` seconds.

        Raises:
            ArgumentError: the model takes no images, or the frame is of another size.
        """
        if not isinstance(self._renderer, ImageRenderer):
            raise ArgumentError("feed", "a model that takes no images", "one that does")
        return self._renderer.feed(image, timeout, arguments)

    def finish(self) -> None:
        """Say that no more will be fed: the stream ends after the last frame."""
        if isinstance(self._renderer, ImageRenderer):
            self._renderer.end()

    # Control ------------------------------------------------------------------------------------

    @property
    def controls(self) -> Controls:
        """What may be changed while it runs."""
        return self._renderer.controls

    def set(
        self,
        *,
        seed: int | None = None,
        walk: Walk | None = None,
        speed: float | None = None,
        position: float | None = None,
        truncation: float | Any | None = False,
        labels: Any = None,
    ) -> None:
        """Change what the frames after the ones already rendered show.

        Args:
            seed: the same walk from another seed.
            walk: another walk.
            speed: frames of the walk per frame shown.
            position: go to this frame of the walk.
            truncation: as in `Generator.stream`; None for none, False leaves it.
            labels: a class, one for each image, or weights by class: {"cat": 0.3, "dog": 0.7}.

        Raises:
            ArgumentError: the model has no such thing, or the value is out of range.
        """
        self.controls.change(
            seed=seed, walk=walk, speed=speed, position=position, truncation=truncation,
            labels=labels,
        )  # fmt: skip

    def pause(self) -> None:
        """Stand still; whoever waits for a frame waits until something changes."""
        self.controls.change(paused=True)

    def resume(self) -> None:
        """Go on from where it stands."""
        self.controls.change(paused=False)

    def step(self, frames: int = 1) -> None:
        """Go so many frames on, or back, at once; also while paused."""
        self.controls.change(step=frames)

    # What happened ------------------------------------------------------------------------------

    @property
    def stats(self) -> Stats:
        """Counts and times so far."""
        fed = getattr(self._renderer, "fed", 0)
        return self._buffers.stats(fed, getattr(self._renderer, "unused", 0))

    def histograms(self) -> dict[str, tuple[list[float], list[int]]]:
        """Of compute, queueing and delivery: upper bounds in ms, and counts."""
        return self._buffers.histograms()

    # The end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop rendering; returns when the thread has ended. Frames taken are no longer valid."""
        self._close()
        _join(self._threads)  # also where another thread closes it in this moment


class _Loop:
    """What the rendering thread does."""

    def __init__(
        self,
        renderer: Renderer,
        buffers: Buffers,
        period: int | None,
        paced: bool,
        newest: bool,
        ahead: int,
        first: int,
        last: int | None,
    ) -> None:
        self._renderer, self._buffers = renderer, buffers
        self._period = period if paced else None
        self._deadline = 0 if period is None or paced else period
        self._newest, self._ahead, self._index, self._last = newest, ahead, first, last
        self._origin = (first, 0)  # frame `origin[0]` is due at `origin[1]`

    def run(self) -> None:
        """Render until closed or at the end."""
        error: BaseException | None = None
        try:
            self._restart()
            while (frame := self._buffers.reserve()) is not None and self._next(frame):
                pass
        except BaseException as raised:
            error = raised
        self._buffers.end(error)

    def _restart(self) -> None:
        """Begin a new schedule with the next frame."""
        if self._period is not None:
            self._origin = (self._index, monotonic_ns() + self._period)

    def _next(self, frame: Frame) -> bool:
        """Render the next frame into this buffer; false at the end."""
        renderer, buffers = self._renderer, self._buffers
        while True:
            if self._last is not None and self._index >= self._last:
                return False
            if not renderer.ready():
                if not buffers.wait_for(renderer.ready):
                    return False
                self._restart()
            due = self._due()
            if self._period is not None and not buffers.wait_until(
                due - self._ahead * self._period
            ):
                return False
            if buffers.closed:
                return False
            begun = monotonic_ns()
            found = renderer.advance(self._index)
            if found is None:
                return False
            position, is_new, arrived = found
            if is_new:
                break
            self._index += 1
            buffers.count(similar=1)
            if self._period is None:
                buffers.wait_until(begun + 1_000_000)  # nothing moves: don't turn in circles
        if self._deadline:
            due = arrived + self._deadline
        renderer.render(frame.images)
        if frame.images.is_cuda:
            torch.cuda.current_stream(frame.images.device).synchronize()
        renderer.mend()
        frame.index, frame.position, frame.due_ns = self._index, position, due
        frame.begun_ns, frame.produced_ns = begun, monotonic_ns()
        buffers.publish(frame)
        self._index += 1
        return True

    def _due(self) -> int:
        """When the next frame is due; with `newest`, frames whose time is over are skipped."""
        if self._period is None:
            return 0
        first, start = self._origin
        due = start + (self._index - first) * self._period
        late = monotonic_ns() - due
        if self._newest and late >= 0:
            skipped = late // self._period + 1
            if self._last is not None:
                skipped = min(skipped, self._last - 1 - self._index)
            self._index += skipped
            due += skipped * self._period
            self._buffers.count(skipped=skipped, missed=skipped)
        return due


def _close(
    renderer: Renderer,
    buffers: Buffers,
    threads: list[threading.Thread],
    feeder: threading.Thread | None,
) -> None:
    buffers.close()
    renderer.close()
    _join(threads)
    if feeder is not None and feeder.ident is not None:
        feeder.join(_SOURCE_SECONDS)
        if feeder.is_alive():
            log.warning("the source of frames does not come back: it is left waiting")


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join()
