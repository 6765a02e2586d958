"""What a stream counts and times, in bounded memory however long it runs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: A bucket is 1 % wide; the first ends at 1 us, the last begins beyond a minute.
_WIDTH = math.log(1.01)
_LEAST_NS = 1_000
_BUCKETS = 1_850


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of durations in milliseconds, each within 1 %; `max` is exact."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


class Histogram:
    """Durations in buckets of equal ratio. Not thread-safe: whoever owns it holds the lock."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._count = 0
        self._max = 0

    def add(self, nanoseconds: int) -> None:
        """Count one; what is negative counts as 0."""
        bucket = 0
        if nanoseconds > _LEAST_NS:
            bucket = min(_BUCKETS - 1, 1 + int(math.log(nanoseconds / _LEAST_NS) / _WIDTH))
        self._counts[bucket] += 1
        self._count += 1
        self._max = max(self._max, nanoseconds)

    def percentile(self, share: float) -> float:
        """The duration in ms that `share` (0 to 1) of all do not exceed; 0 where there are none."""
        if not self._count:
            return 0.0
        wanted = math.ceil(share * self._count)
        bucket = int(np.searchsorted(np.cumsum(self._counts), wanted))
        if bucket == 0:
            return min(_LEAST_NS, self._max) / 1e6
        return min(_LEAST_NS * math.exp(bucket * _WIDTH), self._max) / 1e6

    def percentiles(self) -> Percentiles:
        """What is usually asked of it."""
        at = self.percentile
        return Percentiles(self._count, at(0.5), at(0.95), at(0.99), self._max / 1e6)

    def counts(self) -> tuple[list[float], list[int]]:
        """Upper bounds in ms, and counts, of the buckets from the first to the last in use."""
        used = np.flatnonzero(self._counts)
        if not len(used):
            return [], []
        first, last = int(used[0]), int(used[-1]) + 1
        bounds = [_LEAST_NS * math.exp(i * _WIDTH) / 1e6 for i in range(first, last)]
        return bounds, [int(c) for c in self._counts[first:last]]


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of every frame so far.

    Attributes:
        produced: rendered into a buffer.
        delivered: taken by the consumer.
        dropped: rendered, but a newer frame was there before anyone took it.
        skipped: never rendered, because the clock had passed them already.
        similar: never rendered, because hardly anything had moved (`similarity`).
        missed: deadlines missed: frames that were ready after their time, and those skipped.
        waiting: ready, and not taken yet.
        fed: frames that went in, for image-to-image models.
        unused: frames that went in, and were replaced by newer ones before they were run.
        compute: from the begin of a frame until it is whole.
        queueing: from then until the consumer took it.
        delivery: how long after its time the consumer got it; without fps, since the one before.
    """

    produced: int
    delivered: int
    dropped: int
    skipped: int
    similar: int
    missed: int
    waiting: int
    fed: int
    unused: int
    compute: Percentiles
    queueing: Percentiles
    delivery: Percentiles

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)
