"""Requests in a queue of bounded length, run together as they come."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from fastgan.serve import metrics
from fastgan.serve.requests import Array, Asked
from fastgan.serve.together import Together


class BusyError(Exception):
    """As many requests wait as may."""


class DrainingError(Exception):
    """The server ends, and takes no more."""


@dataclass(eq=False)  # one is itself; what it asks for holds tensors
class _Waiting:
    asked: Asked
    answer: Future[dict[str, Array]] = field(default_factory=Future)


class Batcher:
    """Runs the requests of one model, on a thread of its own, for whichever event loops ask.

    One that is brief, and is the only one, is run on the thread that asks: another would have to
    wake twice for it, which takes longer than a small network.

    Args:
        name: of the model, for metrics.
        together: runs them.
        window: seconds that a request waits for others; those that come while another batch is
            computed are one anyway.
        most: requests that may wait.

    Attributes:
        draining: whether no more are taken.
    """

    def __init__(self, name: str, together: Together, window: float = 0.0, most: int = 256) -> None:
        self.together = together
        self._window, self._most = window, most
        self._length, self._sizes = metrics.QUEUE.labels(name), metrics.BATCH.labels(name)
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()  # holds for all that follows, and for `_waiting`
        self._thread: threading.Thread | None = None
        self._computing = False
        self._inside = 0  # calls of `run`
        self.draining = False

    async def run(self, asked: Asked) -> dict[str, Array]:
        """The outputs of a request by name. A caller that is cancelled frees its place.

        Raises:
            BusyError, DrainingError: it is not taken.
            FastganError: it can't be run.
        """
        with self._changed:
            if self.draining:
                raise DrainingError
            self._inside += 1
        try:
            await asyncio.sleep(0)  # so that all that came in one turn of the loop are inside
            with self._changed:
                alone = self._inside == 1 and not (self._computing or self._window)
                here = alone and self.together.brief(asked)
                self._computing = self._computing or here
            return self._here(asked) if here else await self._queued(asked, alone)
        finally:
            with self._changed:
                self._inside -= 1
                if self.draining:
                    self._changed.notify()

    def _here(self, asked: Asked) -> dict[str, Array]:
        """Run a request on this thread, which has said that it computes."""
        try:
            one = _Waiting(self.together.ready(asked, alone=True))
            self._compute([one])
        finally:
            with self._changed:
                self._computing = False
                self._changed.notify()
        return one.answer.result()

    async def _queued(self, asked: Asked, alone: bool) -> dict[str, Array]:
        one = _Waiting(self.together.ready(asked, alone))
        with self._changed:
            if len(self._waiting) >= self._most:
                raise BusyError
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, daemon=True)
                self._thread.start()
            self._waiting.append(one)
            self._count()
            self._changed.notify()
        try:
            return await asyncio.wrap_future(one.answer)
        finally:
            # It is still there if its client has gone. `remove` alone would write all of what it
            # does not find, a tensor's numbers too, into an error that nobody reads.
            with self._changed:
                if one in self._waiting:
                    self._waiting.remove(one)
                    self._count()

    async def drain(self) -> None:
        """Take no more, and end when what was taken is answered."""
        with self._changed:
            self.draining = True
            self._changed.notify()
        while not self._idle():
            await asyncio.sleep(0.01)

    def _idle(self) -> bool:
        with self._changed:
            return not self._inside and not self._computing

    def _has_work(self) -> bool:
        """Whether the thread has something to do, be it to end."""
        if self._waiting:
            return not self._computing
        return self.draining and not self._inside

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if not self._waiting:
                    return
            if self._window:
                time.sleep(self._window)
            with self._changed:
                taken = self._take()
                self._computing = bool(taken)
                self._count()
            if taken:
                self._compute(taken)
                self._computing = False

    def _compute(self, taken: list[_Waiting]) -> None:
        self._sizes.observe(sum(one.asked.n for one in taken))
        try:
            found = self.together.run([one.asked for one in taken])
        except BaseException as error:  # the thread has others to serve
            found = [error] * len(taken)
        for one, result in zip(taken, found, strict=True):
            if isinstance(result, BaseException):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(result)

    def _count(self) -> None:
        self._length.set(len(self._waiting))

    def _take(self) -> list[_Waiting]:
        """The next batch: what waits, in order, as far as it can be run together."""
        taken: list[_Waiting] = []
        while self._waiting:
            one = self._waiting[0]
            if not one.answer.cancelled():  # else its client has gone
                if not self.together.fit([other.asked for other in taken], one.asked):
                    break
                if one.answer.set_running_or_notify_cancel():
                    taken.append(one)
            self._waiting.popleft()
        return taken
