"""The figures to quote: every model, size and contender in turns, with the machine and versions.

    python -m benchmarks.run --out benchmarks/results/my-machine

writes MODEL.json (all samples), MODEL.md (the table) and MODEL.png (the plot) for each model.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from benchmarks.models import MODELS
from fastgan.errors import FastganError
from fastgan.measure import bench, machine, plot
from fastgan.measure.bench import advice, table
from fastgan.measure.bench.peers import PEERS
from fastgan.measure.bench.report import Report

FOLDER = Path(__file__).parent / "results"


def main() -> int:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in options.models:
        try:
            model = MODELS[name]()
            report = bench.run(
                model.source,
                sizes=options.n,
                seconds=options.seconds,
                peers=options.peers,
                threads=options.threads,
                module=model.module,
                say=lambda text, done, name=name: _say(f"{name}: {text}"),
            )
        except FastganError as error:
            print(f"{name}: not run: {error}", file=sys.stderr)
            failed = 1
            continue
        _write(report, options.out / name)
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=FOLDER / _machine_name())
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--n", nargs="+", type=int, default=list(bench.SIZES))
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing per size")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def _machine_name() -> str:
    """A folder's name for this machine: its CPU, how many cores of it, and its first GPU."""
    cpu = machine.cpu()
    gpu = [text.split(",")[0] for text in machine.gpus()[:1]]
    text = " ".join([cpu["model"], f"{cpu['cores']} cores", *gpu]).lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text)).strip("-")


def _write(report: Report, stem: Path) -> None:
    command = ["python", "-m", "benchmarks.run", *sys.argv[1:]]
    stem.with_suffix(".json").write_text(json.dumps(report.as_json(command)) + "\n")
    facts = machine.describe()
    cpu, versions = facts["cpu"], facts["versions"]
    heading = [
        f"# {report.model}, {report.device}, {report.threads} threads",
        "",
        f"{cpu['model']}, {cpu['cores']} cores ({', '.join(cpu['flags'])}); "
        f"{', '.join(facts['gpus']) or 'no GPU'}; {facts['system']}; {facts['python']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "",
        f"`{' '.join(command)}`",
        "",
    ]
    advised = ["", *(f"- {line}" for line in advice.advise(report)), ""]
    text = "\n".join(heading) + "\n" + table.markdown(report) + "\n".join(advised)
    stem.with_suffix(".md").write_text(text)
    plot.write(report, stem.with_suffix(".png"))
    print(f"{stem}.json, .md and .png")


_said: set[str] = set()


def _say(text: str) -> None:
    """Each thing that is being done, once."""
    if text not in _said:
        _said.add(text)
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
