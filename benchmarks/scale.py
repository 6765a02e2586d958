"""Mass generation: samples into shards by one process, by a process a core, and by Ray on the same.

    python -m benchmarks.scale --n 100000
    python -m benchmarks.scale --n 100000 --busy 1     # beside a process that only computes

Each in a process of its own, into a folder that is removed. Images per second from the
first shard on, so that loading and the start of Ray are apart from it; and core-seconds, which a
busy machine changes less: of the actors, and of the process that began Ray from its start on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import busy

_PLAIN = """
import json, sys, torch
from fastgan.scale import work
from fastgan.scale.shards import Job
model, out, n, size, threads, part, parts = sys.argv[1:8]
job = Job(model, out, int(n), size=int(size), threads=int(threads))
r = work.run(work.load(job), job, (int(part), int(parts)))
print(json.dumps([r.images, r.seconds, r.core_seconds]))
"""
_RAY = """
import json, sys, time
from fastgan import scale
from fastgan.scale.on_ray import Cluster
model, out, n, size, workers = sys.argv[1:6]
r = scale.generate(model, int(n), out, shard_size=int(size), cluster=Cluster(workers=int(workers)))
print(json.dumps([r.images, r.seconds, r.core_seconds + time.process_time()]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="dcgan-digits")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute meanwhile")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    from fastgan.measure import machine

    cores = machine.cores()
    record: dict[str, Any] = {"machine": machine.describe(), "load": os.getloadavg()}
    record |= {"model": options.model, "n": options.n, "shard_size": options.shard_size}
    record["busy"] = options.busy
    given = (options.model, options.n, options.shard_size)
    with busy(options.busy):
        record["one process"] = plain(given, cores, 1)
        record[f"{cores} tasks of a job array"] = plain(given, 1, cores)
        record[f"Ray, {cores} actors"] = on_ray(given, cores)
    print(json.dumps({k: v for k, v in record.items() if k != "machine"}, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def plain(given: tuple[str, int, int], threads: int, tasks: int) -> dict[str, float]:
    """So many processes at once, each with its part of the shards."""
    model, n, size = given
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "out"))
        parts = [(_PLAIN, model, out, n, size, threads, task, tasks) for task in range(tasks)]
        return _told([_start(*part) for part in parts])


def on_ray(given: tuple[str, int, int], workers: int) -> dict[str, float]:
    """Ray on this machine."""
    model, n, size = given
    with tempfile.TemporaryDirectory() as folder:
        return _told([_start(_RAY, model, str(Path(folder, "out")), n, size, workers)])


def _start(code: str, *arguments: object) -> tuple[float, subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return time.perf_counter(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _told(processes: list[tuple[float, subprocess.Popen[str]]]) -> dict[str, float]:
    found = []
    for _, process in processes:
        out, _ = process.communicate()
        found.append(json.loads(out.strip().splitlines()[-1]))
    whole = time.perf_counter() - processes[0][0]
    images = sum(one[0] for one in found)
    seconds, used = max(one[1] for one in found), sum(one[2] for one in found)
    return {
        "images": images,
        "images_per_second": round(images / seconds, 1),
        "core_seconds_per_thousand": round(1000 * used / images, 3),
        "seconds_with_the_start": round(whole, 1),
    }


if __name__ == "__main__":
    raise SystemExit(main())
