"""Frames on time: missed deadlines, losses, memory, and what the loop itself costs.

    python -m benchmarks.realtime --seconds 300 --json realtime.json

The shipped digits model at 60 fps on a CPU. What is promised holds on a machine that does nothing
else: at most 0.5 % of deadlines missed, no frame uncounted, memory within 2 % after the first ten
seconds, and at most 0.3 ms per frame (median) beyond `generate` alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch

import fastgan
from fastgan.measure import machine, rates

FPS = 60
PROMISED = {"missed": 0.005, "uncounted": 0, "memory": 0.02, "overhead_ms": 0.3}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.realtime", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=300.0, help="of the run at 60 fps")
    parser.add_argument("--policy", default="newest")
    parser.add_argument("--name", default="run", help="the record's name in the file")
    parser.add_argument("--json", type=Path, help="written, or added to")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a promise is broken")
    options = parser.parse_args()
    generator = fastgan.load("dcgan-digits", device="cpu")

    overhead = overhead_of(generator)
    load_before = os.getloadavg()[0]
    memory: list[int] = []
    process = psutil.Process()

    def watch(done: float) -> None:
        if done * options.seconds >= len(memory):  # once a second
            memory.append(process.memory_info().rss)

    report = rates.run(generator, FPS, options.seconds, policy=options.policy, say=watch)
    warm = memory[min(10, len(memory) // 3) :]
    growth = max(warm) / warm[0] - 1.0
    found = {
        "missed": report.missed,
        "uncounted": report.uncounted,
        "memory": growth,
        "overhead_ms": overhead["overhead_ms"],
    }
    stats = report.stats
    print(f"dcgan-digits at {FPS} fps for {report.seconds:.0f} s, policy {options.policy}")
    print(f"  load of the machine before {load_before:.2f}, after {os.getloadavg()[0]:.2f}")
    print(f"  due {report.due}, delivered {stats.delivered}, dropped {stats.dropped}, "
          f"skipped {stats.skipped}, missed {stats.missed}")  # fmt: skip
    for name, p in (("compute", stats.compute), ("delivery", stats.delivery),
                    ("jitter", report.jitter)):  # fmt: skip
        print(f"  {name:9} p50 {p.p50:.2f}  p95 {p.p95:.2f}  p99 {p.p99:.2f}  max {p.max:.2f} ms")
    print(
        f"  generate alone {overhead['generate_ms']:.3f} ms, a frame {overhead['frame_ms']:.3f} ms"
    )
    kept = True
    for name, value in found.items():
        ok = value <= PROMISED[name]
        kept = kept and ok
        print(
            f"  {name:12} {value:.5f}, promised at most {PROMISED[name]}: {'kept' if ok else 'NOT'}"
        )
    if options.json is not None:
        record: dict[str, Any] = {}
        if options.json.exists():
            record = json.loads(options.json.read_text())
        record["machine"] = machine.describe()
        record[options.name] = {
            **report.as_json(),
            "policy": options.policy,
            "load_before": load_before,
            "rss_megabytes": [round(value / 1e6, 1) for value in memory],
            "memory_growth": growth,
            **overhead,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if options.check and not kept else 0


def overhead_of(generator: Any, frames: int = 600, turns: int = 5) -> dict[str, Any]:
    """What a frame of a stream costs beyond `generate`, in ms: medians, in turns.

    A frame: from one delivery to the next, with nothing between them, every frame taken.
    """
    gc.collect()
    alone, framed = [], []
    out = torch.empty_like(generator.generate(1, format="uint8"))
    for _ in range(turns):
        taken = []
        for i in range(frames):
            began = time.perf_counter()
            generator.generate(1, seed=0, start=i, format="uint8", out=out)
            taken.append((time.perf_counter() - began) * 1e3)
        alone.append(statistics.median(taken))
        with generator.stream(policy="every", frames=frames) as stream:
            times = [frame.delivered_ns / 1e6 for frame in stream]
        framed.append(statistics.median(b - a for a, b in pairwise(times)))
    return {
        "generate_ms": statistics.median(alone),
        "frame_ms": statistics.median(framed),
        "overhead_ms": statistics.median(b - a for a, b in zip(alone, framed, strict=True)),
        "overhead_each_ms": [b - a for a, b in zip(alone, framed, strict=True)],
    }


if __name__ == "__main__":
    raise SystemExit(main())
