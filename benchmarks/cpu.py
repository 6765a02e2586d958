"""The CPU engine beside its peers over many networks: ratios, and their geometric means.

    python -m benchmarks.cpu --out benchmarks/results/my-machine

All contenders of a network take turns in one process, with as many threads each, fed the same
inputs (see `fastgan.measure.timing`). Writes cpu.json and cpu.md, or cpu-busy2.* with `--busy 2`,
which keeps two other processes busy meanwhile, or cpu-bf16.* with `--precision bf16`, which is
fastgan's: its peers stay in fp32, or cpu-avx2.* with `--avx2`: all of them, the peers too, as if on
a CPU without AVX-512 (see `benchmarks.avx2`). A figure is how many times faster fastgan is than a
peer: the median of the turns' ratios. `--memory` asks instead what a process of its own takes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import fastgan
from benchmarks import avx2, busy, footprint
from benchmarks.subjects import GROUPS, Subject
from fastgan.errors import FastganError, one_line
from fastgan.loading import open_model
from fastgan.measure import machine
from fastgan.measure.bench import ours
from fastgan.measure.bench.peers import PEERS, Contender, MissingError, Setting
from fastgan.measure.timing import Run, ratio, take_turns

OWN = "fastgan"

#: torch.compile takes a minute to set up for each network and size: by name alone.
USUAL = ("onnxruntime", "openvino", "ncnn")


def main() -> int:
    options = _options()
    if options.avx2 and avx2.peers() == "all":
        return _without_avx512()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    with _folder(options.models) as folder, busy(options.busy):
        cases: list[dict[str, Any]] = []
        for subject in _subjects(options.groups, options.names):
            try:
                cases += list(_measured(subject, folder, options))
            except (FastganError, ImportError) as error:
                print(f"{subject.name}: not run: {one_line(error)}", file=sys.stderr)
                cases.append({"group": subject.group, "name": subject.name, "error": str(error)})
    kind = "memory" if options.memory else f"busy{options.busy}" if options.busy else ""
    precision = "" if options.precision == "fp32" else options.precision
    kinds = filter(None, [os.environ.get("FASTGAN_CPU"), precision, kind])
    stem = options.out / "-".join(["cpu", *kinds])
    report = {
        "format": 1,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": ["python", "-m", "benchmarks.cpu", *sys.argv[1:]],
        "machine": machine.describe(),
        "instructions": os.environ.get("FASTGAN_CPU", "all"),
        "peers_instructions": avx2.peers(),
        "threads": options.threads,
        "precision": options.precision,
        "busy": options.busy,
        "cases": cases,
    }
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    text = footprint.table(cases) if options.memory else table(cases, options.peers)
    stem.with_suffix(".md").write_text(text)
    print(text)
    return 0


def _without_avx512() -> int:
    with tempfile.TemporaryDirectory(prefix="fastgan-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.cpu", *sys.argv[1:]]
        return subprocess.run(command, env=avx2.environment(Path(folder)), check=False).returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=["zoo", "shipped"])
    parser.add_argument("--names", nargs="+", help="of networks; all of the groups if not given")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--n", nargs="+", type=int, help="samples to a call, instead of the usual")
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing per case")
    parser.add_argument("--turns", type=int, default=5, help="that each contender has at least")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(USUAL))
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--busy", type=int, default=0, help="processes that compute meanwhile")
    parser.add_argument("--avx2", action="store_true", help="as on a CPU without AVX-512")
    parser.add_argument("--models", type=Path, help="where files are exported to, and kept")
    parser.add_argument("--memory", action="store_true", help="peak memory and page faults")
    return parser.parse_args()


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="fastgan-bench-") as made:
        yield Path(made)


def _subjects(groups: Sequence[str], names: Sequence[str] | None) -> Iterator[Subject]:
    for group in groups:
        for subject in GROUPS[group]():
            if names is None or subject.name in names:
                yield subject


def _measured(
    subject: Subject, folder: Path, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """What is found of a network, size by size."""
    source = subject.source(folder)
    frozen = open_model(source).signature.frozen_batch  # which it runs at whatever is asked for
    for n in (frozen,) if frozen else options.n or subject.sizes:
        case: dict[str, Any] = {"group": subject.group, "name": subject.name, "n": n}
        if options.memory:
            case |= {
                name: footprint.measured(name, source, n, options.threads)
                for name in (OWN, "onnxruntime")
            }
        else:
            case |= _timed(subject, source, n, options)
        print(json.dumps(case), file=sys.stderr, flush=True)
        yield case


def _timed(subject: Subject, source: str, n: int, options: argparse.Namespace) -> dict[str, Any]:
    model = open_model(source)
    generator = fastgan.load(source, precision=options.precision, device="cpu")
    setting = Setting(model, generator.device, options.threads, *subject.modules(model))
    runs: dict[str, Run] = {}
    skipped: dict[str, str] = {}
    contenders: list[tuple[str, Contender]] = [(OWN, ours(generator, model, OWN)[-1])]
    for name in options.peers:
        try:
            contenders.append((name, PEERS[name](setting)))
        except MissingError as error:
            skipped[name] = str(error)
    for name, contender in contenders:
        try:
            runs[name] = contender.prepare(n)
            runs[name]()
        except Exception as error:  # whatever a peer raises: it does not take part
            if name == OWN:
                raise
            runs.pop(name, None)
            skipped[name] = one_line(error)
    samples = take_turns(runs, options.seconds, least_turns=options.turns)
    own = samples[OWN]
    return {
        "seconds": {name: taken.median for name, taken in samples.items()},
        "least": {name: min(taken.all) for name, taken in samples.items()},
        "faster_than": {
            name: {"median": found.median, "p10": found.low, "p90": found.high}
            for name, taken in samples.items()
            if name != OWN
            for found in [ratio(taken, own)]
        },
        "library_steps": _left(generator, n),
        "skipped": skipped,
    }


def _left(generator: fastgan.Generator, n: int) -> list[str]:
    """The steps that are not native, and why."""
    plan = generator.plan(n)
    if any(step.op == "fastgan.Native" for step in plan.steps):
        return [f"{step.op}: {step.note}" for step in plan.steps if step.op != "fastgan.Native"]
    if any("native" in step.kernel for step in plan.steps):
        return []
    return [f"all {len(plan.steps)} steps"]


def table(cases: Sequence[dict[str, Any]], peers: Sequence[str]) -> str:
    """Markdown: a row for each network and size, then geometric means."""
    lines = [
        f"| network | n | ms | {' | '.join(f'{peer} / fastgan' for peer in peers)} |",
        "|---|---|---|" + "---|" * len(peers),
    ]
    kinds: dict[tuple[str, int], dict[str, list[float]]] = {}
    for case in cases:
        if "error" in case:
            lines.append(f"| {case['name']} | | | not run: {one_line(Exception(case['error']))} |")
            continue
        cells = []
        for peer in peers:
            found = case["faster_than"].get(peer)
            if found is None:
                cells.append("-")
                continue
            cells.append(f"{found['median']:.2f} ({found['p10']:.2f} to {found['p90']:.2f})")
            kind = kinds.setdefault((case["group"], case["n"]), {})
            kind.setdefault(peer, []).append(found["median"])
        own = 1e3 * case["seconds"][OWN]
        lines.append(f"| {case['name']} | {case['n']} | {own:.3g} | {' | '.join(cells)} |")
    for (group, n), kind in kinds.items():
        means = [
            f"{_geometric(kind[peer]):.2f} of {len(kind[peer])}, least {min(kind[peer]):.2f}"
            if peer in kind
            else "-"
            for peer in peers
        ]
        lines.append(f"| **{group}, geometric mean** | {n} | | {' | '.join(means)} |")
    return "\n".join(lines) + "\n"


def _geometric(numbers: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


if __name__ == "__main__":
    sys.exit(main())
