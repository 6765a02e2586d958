"""Standard normals per second on one CPU thread: fastgan, NumPy's Philox, PyTorch.

    python -m benchmarks.latents [--json FILE] [--rounds N]

Every round times every contender once, in turn, writing into the same float32 buffer, so that
whatever else the machine does falls on all alike. Reported are the median over the rounds and the
10th and 90th percentiles. Exit status 1, and no figures, where our numbers are not the
specification's.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastgan import latents
from fastgan.latents import philox

SIZES = ((1, 100), (1024, 100), (65536, 512))
SLICE = 2e-3  # seconds of repeated calls behind one timing


def contenders(buffer: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """One call each that fills `buffer` [n, size]."""
    n, size = buffer.shape
    array = buffer.numpy()
    generator = np.random.Generator(np.random.Philox(0))
    calls: dict[str, Callable[[], Any]] = {
        "fastgan": lambda: latents.normal(n, size, out=buffer, threads=1),
        "numpy Generator(Philox)": lambda: generator.standard_normal(dtype=np.float32, out=array),
        "torch.randn": lambda: torch.randn(n, size, out=buffer),
    }
    native = latents._native
    for path in native.paths()[1:] if native is not None else ():
        calls[f"fastgan, {path} path"] = lambda path=path: native.fill(
            philox.NORMAL, array, 0, 0, 0, *philox.Parameters(), 1, path
        )
    return calls


def seconds_per_call(call: Callable[[], Any], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def measure(n: int, size: int, rounds: int) -> list[dict[str, Any]]:
    calls = contenders(torch.empty(n, size))
    repeats = {}
    for name, call in calls.items():
        call()  # the first call also touches the memory and loads code
        repeats[name] = max(1, int(SLICE / seconds_per_call(call, 3)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds_per_call(call, repeats[name]))
    rows = []
    for name, seconds in times.items():
        low, *_, high = statistics.quantiles(seconds, n=10)
        median = statistics.median(seconds)
        rows.append(
            {
                "n": n,
                "size": size,
                "name": name,
                "million_per_second": n * size / median / 1e6,
                "million_per_second_p10_p90": [n * size / high / 1e6, n * size / low / 1e6],
                "microseconds_per_call": median * 1e6,
                "rounds": rounds,
            }
        )
    return rows


def correct() -> bool:
    """Whether what is measured is what is specified."""
    expected = np.empty((64, 1001), np.float32)
    philox.fill(philox.NORMAL, expected, seed=7, start=3, stream=0, parameters=philox.Parameters())
    return np.array_equal(latents.normal(64, 1001, seed=7, start=3).numpy(), expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=21, help="timings per contender and size")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not correct():
        print("fastgan's normals differ from the specification: nothing measured", file=sys.stderr)
        return 1

    rows = []
    for n, size in SIZES:
        print(f"{n} x {size}, 1 thread" + " " * 12 + "M samples/s   p10 to p90        us per call")
        measured = measure(n, size, max(3, arguments.rounds))
        for row in measured:
            low, high = row["million_per_second_p10_p90"]
            print(
                f"  {row['name']:26} {row['million_per_second']:12.1f}   {low:6.1f} to {high:6.1f}"
                f"   {row['microseconds_per_call']:12.1f}"
            )
        rows += measured
    if arguments.json:
        report = {
            "processor": processor(),
            "paths": latents.available(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "normals": rows,
        }
        del report["paths"]["cuda native"]  # a file's place on this machine
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def processor() -> str:
    """The CPU's own name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
