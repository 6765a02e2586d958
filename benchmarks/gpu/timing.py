"""Times of runs on a device: by events on a GPU, by the clock elsewhere."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Run = Callable[[], object]


def synchronise(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def throughput(run: Run, device: torch.device, seconds: float) -> dict[str, Any]:
    """Seconds of a run when many follow each other: median, 10th and 90th percentile.

    On a GPU runs are enqueued without waiting, in rounds of about 20 ms or one run, and each round
    is timed by events, so that the host's part counts only where the device waits for it.
    """
    for _ in range(3 if device.type == "cuda" else 1):
        run()
    synchronise(device)
    once = _round(run, device, 1)
    count = max(1, int(0.02 / max(once, 1e-6)))
    rounds = [_round(run, device, count)]
    began = time.perf_counter()
    while len(rounds) < 3 or (time.perf_counter() - began < seconds and len(rounds) < 1000):
        rounds.append(_round(run, device, count))
        if once > seconds and time.perf_counter() - began > 3 * seconds:
            break
    return {**percentiles(rounds), "rounds": len(rounds), "runs_per_round": count}


def _round(run: Run, device: torch.device, count: int) -> float:
    """Seconds per run."""
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(count):
            run()
        return (time.perf_counter() - began) / count
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / count


def latency(run: Callable[[int], object], device: torch.device, frames: int) -> dict[str, Any]:
    """Seconds from asking for frame i to its being there, one at a time."""
    for index in range(min(frames, 50)):
        run(index)
    synchronise(device)
    samples = []
    for index in range(frames):
        began = time.perf_counter()
        run(index)
        synchronise(device)
        samples.append(time.perf_counter() - began)
    return {**percentiles(samples), "frames": frames}


def percentiles(samples: list[float]) -> dict[str, float]:
    """Median and outer percentiles, in seconds."""
    ordered = sorted(samples)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "p50": statistics.median(ordered),
        "p10": at(0.10),
        "p90": at(0.90),
        "p99": at(0.99),
        "least": ordered[0],
    }
