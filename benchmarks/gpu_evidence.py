"""Evidence on a GPU, in one command: right, how fast, beside whom, and how far from the ceiling.

    python -m benchmarks.gpu_evidence --out DIR [--full] [--part NAME ...] [--dry-run]

Six minutes, the most telling parts first; `--full` measures all the rest. Each part runs in a
process of its own, for a time of its own, and writes DIR/PART.json, cell by cell. A crash, a hang
or a GPU that fails costs the cell that it happened in: another process goes on behind it. What is
there is not made again, so the command can be repeated until everything is; `--again` begins anew.
When time is up it stops, writes DIR/summary.md and exits with 3 if something is still to do, 1 if a
check failed, else 0. `--readme` measures nothing and writes the README's figures from DIR, from
whatever is there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
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
    from benchmarks.gpu.parts import QUICK, parts
    from benchmarks.gpu.zoo import TINY, ZOO

    names = parts(TINY if options.dry_run else ZOO)
    unknown = [name for name in options.part if name not in names]
    if unknown:
        print(f"gpu_evidence: no part {unknown[0]!r}; there are: {', '.join(names)}")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    minutes = options.minutes or (180.0 if options.full or options.part or options.dry_run else 6.0)
    deadline = time.monotonic() + 60 * minutes
    if options.inside:
        return _run(options.part[0], options, deadline)
    (options.out / "machine.json").write_text(json.dumps(_machine(), indent=1))
    wanted = [n for n in names if n in (options.part or (names if options.full else QUICK))]
    for name in wanted:
        path = options.out / f"{name}.json"
        if options.again:
            path.unlink(missing_ok=True)
        if _complete(path):
            continue
        left = deadline - time.monotonic()
        if not options.dry_run:  # which is slow, and on any machine
            left = min(left, names[name][1])
        if left < 5:
            continue
        print(f"{name} ({left:.0f} s)", flush=True)
        if options.dry_run and name not in QUICK:  # nothing there can be lost
            _run(name, options, deadline)
            continue
        _measure(name, options, time.monotonic() + left)
    return _summarise(options.out, wanted)


def _run(name: str, options: argparse.Namespace, deadline: float) -> int:
    """One part, here."""
    from benchmarks.gpu.cells import Cells
    from benchmarks.gpu.parts import QUICK, parts
    from benchmarks.gpu.rehearsal import rehearsed
    from benchmarks.gpu.setting import Setting
    from benchmarks.gpu.zoo import TINY, ZOO

    models = options.out / "models"
    models.mkdir(exist_ok=True)
    # A kernel alone is held to PyTorch's operator where that is: on the CPU.
    on_gpu = options.dry_run and name in QUICK and name != "kernels-quick"
    setting = Setting(options.out, options.dry_run, deadline, models, on_gpu)
    patience = options.patience or (30.0 if name in QUICK and not options.dry_run else 600.0)
    cells = Cells(options.out / f"{name}.json", deadline, patience)
    with contextlib.ExitStack() as stack:
        if on_gpu:
            for entry in setting.entries:
                entry.export(models)
            cells.begin = stack.enter_context(rehearsed(name))
        try:
            parts(TINY if options.dry_run else ZOO)[name][0](setting, cells)
        except Exception as error:
            cells.data["error"] = f"{type(error).__name__}: {error}"[:500]
            print(f"  {name} stopped: {cells.data['error']}", flush=True)
    cells.finish()
    return 0


def _measure(name: str, options: argparse.Namespace, deadline: float) -> None:
    """A part in processes of its own, one after the other for as long as they are lost."""
    from benchmarks.gpu.cells import give_up

    command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--out", str(options.out.resolve())]
    command += ["--part", name, "--inside"] + (["--dry-run"] if options.dry_run else [])
    command += ["--patience", str(options.patience)] if options.patience else []
    environment = {**os.environ, "FASTGAN_CACHE": str((options.out / "cache").resolve())}
    while (left := deadline - time.monotonic()) > 0:
        here = [*command, "--minutes", str(max(0.02, (left - 2) / 60))]
        child = subprocess.Popen(here, cwd=ROOT, env=environment, start_new_session=True)
        try:
            code = child.wait(left + 10)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what it may have started as well
        child.wait()
        if code in (0, None):
            return
        lost = give_up(options.out / f"{name}.json", code)
        print(f"  {name}: its process ended with {code}, in {lost or 'no cell'}", flush=True)
        if lost is None:  # before or between its cells: it would end there again
            return


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
    parser.add_argument("--full", action="store_true", help="all the rest too: hours")
    parser.add_argument("--minutes", type=float, help="in all: 6, or 180 with --full or --part")
    parser.add_argument("--patience", type=float, help="seconds after which a cell is a hang")
    parser.add_argument("--again", action="store_true", help="make what is there again")
    parser.add_argument("--dry-run", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--readme", action="store_true", help="write the README's figures")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
