"""Requests in a queue of bounded length, run together as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
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
    answer: asyncio.Future[dict[str, Array]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher:
    """Runs the requests of one model, on a thread of its own.

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
        self._name, self._window, self._most = name, window, most
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, "fastgan-serve")
        self._running: asyncio.Task[None] | None = None
        self._arrived: asyncio.Event | None = None
        self.draining = False

    async def run(self, asked: Asked) -> dict[str, Array]:
        """The outputs of a request by name. A caller that is cancelled frees its place.

        Raises:
            BusyError, DrainingError: it is not taken.
            FastganError: it can't be run.
        """
        if self.draining:
            raise DrainingError
        if len(self._waiting) >= self._most:
            raise BusyError
        if self._arrived is None or self._running is None:
            self._arrived = asyncio.Event()
            self._running = asyncio.create_task(self._serve(self._arrived))
        one = _Waiting(asked)
        self._waiting.append(one)
        self._count()
        self._arrived.set()
        try:
            return await one.answer
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(one)  # it is still there if its client has gone
                self._count()

    async def drain(self) -> None:
        """Take no more, and end when what waits is answered."""
        self.draining = True
        while self._waiting:
            await asyncio.sleep(0.01)
        if self._running is not None:
            self._running.cancel()
        self._thread.shutdown(wait=False)

    async def _serve(self, arrived: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await arrived.wait()
            if self._window:
                await asyncio.sleep(self._window)
            taken = self._take()
            if not taken:
                arrived.clear()
                continue
            self._count()
            metrics.BATCH.labels(self._name).observe(sum(one.asked.n for one in taken))
            found = await loop.run_in_executor(
                self._thread, self.together.run, [t.asked for t in taken]
            )
            for one, result in zip(taken, found, strict=True):
                if one.answer.done():  # its client has gone
                    continue
                if isinstance(result, BaseException):
                    one.answer.set_exception(result)
                else:
                    one.answer.set_result(result)

    def _count(self) -> None:
        metrics.QUEUE.labels(self._name).set(len(self._waiting))

    def _take(self) -> list[_Waiting]:
        """The next batch: what waits, in order, as far as it can be run together."""
        taken: list[_Waiting] = []
        while self._waiting:
            one = self._waiting[0]
            if not one.answer.done():  # else its client has gone
                if not self.together.fit([other.asked for other in taken], one.asked):
                    break
                taken.append(one)
            self._waiting.popleft()
        return taken
