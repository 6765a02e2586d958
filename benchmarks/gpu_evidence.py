"""Evidence on a GPU, in one command: right, how fast, beside whom, and how far from the ceiling.

    python -m benchmarks.gpu_evidence --out DIR [--part NAME ...] [--minutes 8] [--dry-run]

Each part runs in a process of its own and writes DIR/PART.json, cell by cell. What is there is not
made again, so the command can be repeated until everything is; `--again` begins anew. When time is
up it stops, writes DIR/summary.md and exits with 3 if something is still to do, 1 if a check
failed, else 0. `--readme` measures nothing and writes the README's figures from DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.paths import ROOT, arrange


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    if options.readme:
        return _readme(options.out)
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    arrange()
    import torch

    if options.dry_run:
        torch.set_num_threads(1)  # many threads on tiny problems only wait for each other
    elif not torch.cuda.is_available():
        print("gpu_evidence: no NVIDIA GPU that torch can use; --dry-run rehearses on the CPU")
        return 2
    from benchmarks.gpu.parts import parts
    from benchmarks.gpu.zoo import TINY, ZOO

    names = list(parts(TINY if options.dry_run else ZOO))
    unknown = [name for name in options.part if name not in names]
    if unknown:
        print(f"gpu_evidence: no part {unknown[0]!r}; there are: {', '.join(names)}")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    (options.out / "machine.json").write_text(json.dumps(_machine(), indent=1))
    wanted = [name for name in names if not options.part or name in options.part]
    if options.inside:
        return _run(wanted[0], options, deadline)
    for name in wanted:
        path = options.out / f"{name}.json"
        if options.again:
            path.unlink(missing_ok=True)
        if _complete(path):
            continue
        left = deadline - time.monotonic()
        if left < (0 if options.dry_run else 10):
            break
        print(f"{name} ({left:.0f} s left)", flush=True)
        if options.dry_run:
            _run(name, options, deadline)
            continue
        _in_process_of_its_own(name, options, left)
    return _summarise(options.out, wanted)


def _run(name: str, options: argparse.Namespace, deadline: float) -> int:
    """One part, here."""
    from benchmarks.gpu.parts import Cells, Setting, parts
    from benchmarks.gpu.zoo import TINY, ZOO

    models = options.out / "models"
    models.mkdir(exist_ok=True)
    setting = Setting(options.out, options.dry_run, deadline, models)
    cells = Cells(options.out / f"{name}.json", deadline)
    try:
        parts(TINY if options.dry_run else ZOO)[name](setting, cells)
    except Exception as error:
        cells.data["error"] = f"{type(error).__name__}: {error}"[:500]
        print(f"  {name} stopped: {cells.data['error']}", flush=True)
    cells.save()
    return 0


def _in_process_of_its_own(name: str, options: argparse.Namespace, left: float) -> None:
    """A part that ends its process, or takes it too long, leaves the others alone."""
    command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--out", str(options.out.resolve())]
    command += ["--part", name, "--minutes", str(max(0.1, (left - 5) / 60)), "--inside"]
    environment = {**os.environ, "FASTGAN_CACHE": str((options.out / "cache").resolve())}
    try:
        code = subprocess.run(command, cwd=ROOT, env=environment, timeout=left + 20).returncode
    except subprocess.TimeoutExpired:
        print(f"  {name}: stopped, time is up", flush=True)
        return
    if code:
        path = options.out / f"{name}.json"
        data = json.loads(path.read_text()) if path.exists() else {"cells": {}}
        data["error"] = f"its process ended with {code}"
        path.write_text(json.dumps(data, indent=1))
        print(f"  {name}: {data['error']}", flush=True)


def _complete(path: Path) -> bool:
    return path.exists() and bool(json.loads(path.read_text()).get("complete"))


def _machine() -> dict[str, object]:
    import torch

    from fastgan.measure import machine

    found = machine.describe()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["torch_cuda"] = {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def _summarise(out: Path, wanted: list[str]) -> int:
    from benchmarks.gpu import summary

    text, failures = summary.write(out)
    print(text)
    if not all(_complete(out / f"{name}.json") for name in wanted):
        print("time is up: run the same command again for the rest")
        return 3
    return 1 if failures else 0


def _readme(out: Path) -> int:
    from benchmarks.gpu import readme

    try:
        readme.write(out)
    except ValueError as error:
        print(f"gpu_evidence: {error}")
        return 2
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_evidence", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", nargs="+", default=[], help="of these names alone")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--again", action="store_true", help="make what is there again")
    parser.add_argument("--dry-run", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--readme", action="store_true", help="write the README's figures")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
