"""Timing several ways of doing one thing side by side.

A busy machine is slower for minutes at a time, so nothing is timed on its own: the contenders take
turns, and are compared turn by turn. Within its turn a contender first runs untimed, until its
caches are warm and the threads of the one before have stopped spinning (ONNX Runtime's and OpenMP's
do so for many milliseconds after a run, on the cores that the next one needs).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

#: Seconds of untimed runs at the start of a turn, and of timed ones after them.
SETTLE = 0.05
TURN = 0.1

Run = Callable[[], object]


def waiting(device: torch.device) -> Callable[[], None]:
    """What waits until a device is idle."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None


def timed(run: Run, wait: Callable[[], None]) -> float:
    """How long one run takes, until its device is idle."""
    began = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - began


@dataclass(slots=True)
class Samples:
    """Seconds of each timed run, turn by turn."""

    turns: list[list[float]] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        """Every sample."""
        return [seconds for turn in self.turns for seconds in turn]

    def percentile(self, percent: float) -> float:
        """Seconds that `percent` of the runs took at most (the nearest sample)."""
        ordered = sorted(self.all)
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]

    @property
    def median(self) -> float:
        """The middle sample, in seconds."""
        return statistics.median(self.all)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster one is than another, turn by turn.

    Attributes:
        median: of the turns' ratios.
        low, high: the 10th and 90th percentile of them; the extremes where there are few.
    """

    median: float
    low: float
    high: float


def ratio(slow: Samples, fast: Samples) -> Ratio:
    """Time of `slow` over time of `fast`, each turn's median against the same turn's."""
    ratios = sorted(
        statistics.median(a) / statistics.median(b)
        for a, b in zip(slow.turns, fast.turns, strict=False)
    )
    cut = len(ratios) // 10
    return Ratio(statistics.median(ratios), ratios[cut], ratios[len(ratios) - 1 - cut])


def take_turns(
    contenders: Mapping[str, Run],
    seconds: float,
    *,
    least_turns: int = 3,
    synchronise: Callable[[], None] = lambda: None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Samples]:
    """Time every contender in turns, after one untimed run of each.

    Args:
        contenders: what to run, by name.
        seconds: how long to go on in all; the round in progress is finished.
        least_turns: turns that each contender has, however long that takes.
        synchronise: waits until the device is idle; part of each timed run.
        on_progress: told how much of the whole is done, 0 to 1.
    """
    once = {name: partial(timed, run, synchronise) for name, run in contenders.items()}
    samples = {name: Samples() for name in contenders}
    expected = {name: once[name]() for name in contenders}
    names: Sequence[str] = list(contenders)
    began = time.perf_counter()
    rounds = 0
    while rounds < least_turns or time.perf_counter() - began < seconds:
        # Another one begins each round, so that none always follows the same neighbour.
        first = rounds % len(names)
        for done, name in enumerate((*names[first:], *names[:first]), 1):
            turn = _turn(once[name], expected[name])
            samples[name].turns.append(turn)
            expected[name] = statistics.median(turn)
            elapsed = (time.perf_counter() - began) / seconds if seconds > 0 else 1.0
            on_progress(min((rounds + done / len(names)) / least_turns, elapsed, 1.0))
        rounds += 1
    return samples


def _turn(timed: Callable[[], float], expected: float) -> list[float]:
    """The seconds of each timed run of one turn."""
    if expected > SETTLE:
        time.sleep(SETTLE)  # long runs wash out what came before them
    else:
        settled = time.perf_counter() + SETTLE
        while time.perf_counter() < settled:
            timed()
    runs = [timed()]
    total = runs[0]  # kept, as a sum of thousands would be a pause between any two of them
    while total + runs[-1] < TURN:
        runs.append(timed())
        total += runs[-1]
    return runs
