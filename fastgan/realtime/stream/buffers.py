"""The ring between the thread that renders and the one that shows: frames, and their policy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic_ns

from torch import Tensor

from fastgan.host import forks
from fastgan.realtime.stream.stats import Histogram, Stats

#: Waits are cut into parts of at most so many seconds.
_LONGEST_WAIT = 3600.0


@dataclass(slots=True)
class Frame:
    """A rendered frame: it is the consumer's until it takes the next one, `copy` it to keep it.

    Attributes:
        images: uint8 [batch, H, W, C] or float32 [batch, C, H, W], as the stream's format says.
        index: its number; where numbers are missing, frames were dropped, skipped or similar.
        position: where on the walk it is, in frames of the walk; or which of the frames fed in it
            was made of, from 0.
        due_ns: when it should be seen, in nanoseconds of `time.monotonic_ns`; 0 without fps.
        begun_ns, produced_ns, delivered_ns: when it was begun, whole, and taken.
    """

    images: Tensor
    index: int = -1
    position: float = 0.0
    due_ns: int = 0
    begun_ns: int = 0
    produced_ns: int = 0
    delivered_ns: int = 0

    @property
    def picture(self) -> Tensor:
        """One picture, uint8 [batch * H, W, C]: the images of the frame below each other."""
        return self.images.flatten(0, 1)

    def copy(self) -> Frame:
        """A frame that stays as it is."""
        return replace(self, images=self.images.clone())


class Buffers:
    """Hands frames from one producer to one consumer.

    With `newest` the producer never waits for the consumer: of the frames whose time has come the
    consumer gets the last, and a buffer whose frame is passed over is used again. Without it the
    consumer gets every frame, and the producer waits for a free buffer. A frame that is not `held`
    is delivered as soon as it is ready, and is due later.
    """

    def __init__(self, frames: list[Frame], newest: bool, held: bool = True) -> None:
        self._newest, self._hold = newest, held
        self._free = deque(frames)
        self._ready: deque[Frame] = deque()
        self._held: Frame | None = None
        self._changed = threading.Condition(forks.renewed(threading.RLock()))
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._counts = dict.fromkeys(
            ("produced", "delivered", "dropped", "skipped", "similar", "missed"), 0
        )
        self._compute, self._queueing, self._delivery = Histogram(), Histogram(), Histogram()
        self._last_delivery = 0

    # The producer's side ------------------------------------------------------------------------

    def reserve(self) -> Frame | None:
        """A buffer to render into; None once the stream is closed."""
        with self._changed:
            while not self._closed:
                if self._free:
                    return self._free.popleft()
                pause = None
                if self._newest and len(self._ready) > 1:
                    pause = (self._when(self._ready[1]) - monotonic_ns()) / 1e9
                    if pause <= 0:  # nobody will see this one any more
                        self._counts["dropped"] += 1
                        return self._ready.popleft()
                self._wait(pause)
            return None

    def publish(self, frame: Frame) -> None:
        """A frame is whole, with its times."""
        with self._changed:
            self._counts["produced"] += 1
            self._compute.add(frame.produced_ns - frame.begun_ns)
            if frame.due_ns and frame.produced_ns > frame.due_ns:
                self._counts["missed"] += 1
            self._ready.append(frame)
            self._changed.notify_all()

    def give_up(self, frame: Frame) -> None:
        """A buffer goes back without a frame."""
        with self._changed:
            self._free.append(frame)
            self._changed.notify_all()

    def count(self, **more: int) -> None:
        """Add to counts by name."""
        with self._changed:
            for name, number in more.items():
                self._counts[name] += number

    def wait_until(self, when_ns: int) -> bool:
        """Wait for a time of `monotonic_ns`; false once the stream is closed."""
        with self._changed:
            while not self._closed:
                pause = (when_ns - monotonic_ns()) / 1e9
                if pause <= 0:
                    return True
                self._wait(pause)
            return False

    def wait_for(self, ready: Callable[[], bool]) -> bool:
        """Wait until `ready()`, asked anew at each `wake`; false once the stream is closed."""
        with self._changed:
            while not self._closed and not ready():
                self._wait(None)
            return not self._closed

    def end(self, error: BaseException | None = None) -> None:
        """No more frames will come; the consumer gets those that are ready, then the error."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    # The consumer's side ------------------------------------------------------------------------

    def take(self, timeout: float | None) -> Frame | None:
        """The next frame, when its time has come; None after `timeout` seconds.

        The frame taken before goes back to the producer.

        Raises:
            StopIteration: there are no more, or the stream is closed.
            BaseException: what went wrong in the producer.
        """
        limit = None if timeout is None else monotonic_ns() + int(timeout * 1e9)
        with self._changed:
            if self._held is not None:
                self._free.append(self._held)
                self._held = None
                self._changed.notify_all()
            while True:
                if self._closed:
                    raise StopIteration
                now = monotonic_ns()
                if self._newest:
                    while len(self._ready) > 1 and self._when(self._ready[1]) <= now:
                        self._free.append(self._ready.popleft())
                        self._counts["dropped"] += 1
                        self._changed.notify_all()
                if self._ready and self._when(self._ready[0]) <= now:
                    return self._deliver(self._ready.popleft(), now)
                if not self._ready and self._ended:
                    if self._error is not None:
                        raise self._error
                    raise StopIteration
                if limit is not None and now >= limit:
                    return None
                until = self._when(self._ready[0]) if self._ready else limit
                if limit is not None:
                    until = min(until or limit, limit)
                self._wait(None if until is None else (until - now) / 1e9)

    def _when(self, frame: Frame) -> int:
        return frame.due_ns if self._hold else 0

    def _deliver(self, frame: Frame, now: int) -> Frame:
        self._counts["delivered"] += 1
        self._queueing.add(now - frame.produced_ns)
        if frame.due_ns:
            self._delivery.add(now - frame.due_ns)
        elif self._last_delivery:
            self._delivery.add(now - self._last_delivery)
        self._last_delivery = frame.delivered_ns = now
        self._held = frame
        return frame

    # Both ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something that the producer waits for may have come."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Both sides return at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def histograms(self) -> dict[str, tuple[list[float], list[int]]]:
        """Of compute, queueing and delivery: upper bounds in ms, and counts."""
        with self._changed:
            return {
                "compute": self._compute.counts(),
                "queueing": self._queueing.counts(),
                "delivery": self._delivery.counts(),
            }

    def stats(self, fed: int, unused: int) -> Stats:
        """The counts and times so far."""
        with self._changed:
            return Stats(
                **self._counts,
                waiting=len(self._ready),
                fed=fed,
                unused=unused,
                compute=self._compute.percentiles(),
                queueing=self._queueing.percentiles(),
                delivery=self._delivery.percentiles(),
            )

    def _wait(self, seconds: float | None) -> None:
        self._changed.wait(_LONGEST_WAIT if seconds is None else min(seconds, _LONGEST_WAIT))
