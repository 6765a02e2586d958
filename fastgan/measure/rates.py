"""Which frame rate holds: deadlines missed, jitter, and how long frames take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgan.realtime.stream.stats import Percentiles, Stats

if TYPE_CHECKING:
    from fastgan.generator import Generator

#: A rate holds where at least this share of all frames is ready in time.
HOLDS = 0.99
#: How long each rate is tried in the search, and how finely it ends.
_TRIAL_SECONDS = 3.0
_FINENESS = 1.04
_MOST_TRIALS = 12
_LARGEST_FPS = 10_000.0

Milliseconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RateReport:
    """A run at one rate.

    Attributes:
        seconds: how long it took.
        stats: what became of every frame.
        jitter: how far the time between two deliveries was from the period, in ms.
        late: how long after its time each frame was delivered, in ms.
        compute: how long each frame took to render, in ms.
    """

    fps: float
    batch: int
    seconds: float
    stats: Stats
    jitter: Percentiles
    late: Milliseconds
    compute: Milliseconds

    @property
    def due(self) -> int:
        """Frames whose time came."""
        return self.stats.produced + self.stats.skipped

    @property
    def missed(self) -> float:
        """The share of frames that were not ready in time."""
        return self.stats.missed / max(1, self.due)

    @property
    def uncounted(self) -> int:
        """Frames that are in no count: 0, or there is a fault."""
        stats = self.stats
        return stats.produced - stats.delivered - stats.dropped - stats.waiting

    @property
    def holds(self) -> bool:
        """Whether the 99th percentile is inside the period."""
        return self.missed <= 1 - HOLDS

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, without the sample of each frame."""
        return {
            "fps": self.fps,
            "batch": self.batch,
            "seconds": self.seconds,
            "due": self.due,
            "missed": self.missed,
            "uncounted": self.uncounted,
            "holds": self.holds,
            "jitter": asdict(self.jitter),
            **self.stats.as_json(),
        }


def run(
    generator: Generator,
    fps: float,
    seconds: float,
    batch: int = 1,
    policy: str = "newest",
    say: Callable[[float], None] = lambda done: None,
) -> RateReport:
    """Show a drift at `fps` for so long, to a consumer that takes every frame at once.

    Args:
        say: called with the share that is done, now and then.
    """
    frames = max(2, round(fps * seconds))
    delivered, late, compute = (np.zeros(frames) for _ in range(3))
    taken, told = 0, 0.0
    with generator.stream(fps=fps, batch=batch, policy=policy, frames=frames) as stream:
        began = time.perf_counter()
        for frame in stream:
            delivered[taken] = frame.delivered_ns / 1e6
            late[taken] = (frame.delivered_ns - frame.due_ns) / 1e6
            compute[taken] = (frame.produced_ns - frame.begun_ns) / 1e6
            taken += 1
            if frame.delivered_ns / 1e9 - told > 0.2:
                told = frame.delivered_ns / 1e9
                say(frame.index / frames)
        took = time.perf_counter() - began
        stats = stream.stats
    gaps = np.abs(np.diff(delivered[:taken]) - 1e3 / fps)
    return RateReport(fps, batch, took, stats, _percentiles(gaps), late[:taken], compute[:taken])


def highest(
    generator: Generator,
    batch: int = 1,
    policy: str = "newest",
    say: Callable[[str], None] = lambda text: None,
) -> RateReport | None:
    """The highest rate that holds, found by trying: the run at that rate; None if 1 fps fails.

    Starts from how long frames take as fast as they come, then closes in on the edge.
    """
    with generator.stream(batch=batch, policy="every", frames=200) as stream:
        for _ in stream:
            pass
        estimate = min(_LARGEST_FPS, 1e3 / max(stream.stats.compute.p50, 1e-3))
    lower, upper, best = 0.0, estimate * 2.0, None
    rate = estimate
    for _ in range(_MOST_TRIALS):
        say(f"trying {rate:.0f} fps")
        tried = run(generator, rate, _TRIAL_SECONDS, batch, policy)
        if tried.holds:
            lower, best = rate, tried
        else:
            upper = rate
        if (lower and upper / lower < _FINENESS) or upper < 1.0:
            break
        rate = (lower * upper) ** 0.5 if lower else upper / 2.0
    return best


def plot(report: RateReport, name: str, path: Path) -> None:
    """Two histograms as a picture: how long frames took, and how late they came.

    Raises:
        BackendError, ArgumentError: as `fastgan.measure.plot.check`.
    """
    from fastgan.measure.plot import figure

    period = 1e3 / report.fps
    missed, due = report.stats.missed, report.due
    with figure(path, (10, 4), columns=2) as (left, right):
        for axes, values, title in (
            (left, report.compute, "rendering a frame"),
            (right, np.maximum(report.late, 0.0), "delivered after its time"),
        ):
            top = max(period * 1.2, float(np.percentile(values, 99.9)) * 1.1)
            axes.hist(np.minimum(values, top), bins=120, range=(0.0, top), color="#c9722b")
            axes.axvline(period, color="#333", linestyle="--", linewidth=1, label="one period")
            axes.set_yscale("log")
            axes.set_xlabel(f"{title}, ms")
            axes.set_ylabel("frames")
            axes.legend()
        title = f"{name} at {report.fps:g} fps: {missed} of {due} deadlines missed"
        left.figure.suptitle(title)


def _percentiles(values: Milliseconds) -> Percentiles:
    if not len(values):
        return Percentiles(0, 0.0, 0.0, 0.0, 0.0)
    p50, p95, p99, most = np.percentile(values, (50, 95, 99, 100))
    return Percentiles(len(values), float(p50), float(p95), float(p99), float(most))
