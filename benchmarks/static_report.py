"""Compiles every shipped configuration for every architecture, with no GPU, and reports on it.

    python -m benchmarks.static_report [--quick | --defaults] [--kernels conv] [--architectures 90]
                                       [--tilings dependent] [--missing]

Writes the table of docs/kernels.md and benchmarks/results/static/kernels.json, at an interrupt
(SIGINT) with what is compiled by then; with --check nothing. The exit code is 1 where a default
configuration spills, any needs more shared memory than its architecture has, or a main kernel in 16
or 8 bits misses the tensor cores or the copies it is made for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
import triton

from benchmarks.compiled import ARCHITECTURES, Report, report
from fastgan.kernels import e4m3, tiles
from fastgan.kernels.e4m3 import E4M3
from fastgan.kernels.table import KERNELS
from fastgan.kernels.types import Config, Kernel

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "kernels.md"
RESULTS = ROOT / "benchmarks" / "results" / "static" / "kernels.json"
BEGIN, END = "<!-- begin: static report -->", "<!-- end: static report -->"

# What a main kernel in 16 or 8 bits must multiply with; 8 bits from Ada on.
NEEDED = {80: "mma", 86: "mma", 89: "mma", 90: "wgmma", 100: "tcgen05", 120: "mma"}


@dataclass(frozen=True)
class Job:
    """One launch to compile; small enough to send to another process."""

    kernel: int  # row of the table
    case: int  # of main_cases
    dtype: torch.dtype
    precision: str
    batch: int
    config: Config
    architecture: int
    is_default: bool

    @property
    def row(self) -> Kernel:
        return KERNELS[self.kernel]

    def problem(self) -> object:
        return problem(self.row, self.case, self.dtype, self.precision, self.batch)

    @property
    def is_main(self) -> bool:
        """Held to the tensor cores: a default of a large batch in 16 or 8 bits."""
        large = self.batch == self.row.main_cases[self.case].batch
        return self.is_default and large and self.dtype != torch.float32


def problem(kernel: Kernel, case: int, dtype: torch.dtype, precision: str, batch: int) -> object:
    changed = replace(kernel.main_cases[case], dtype=dtype, batch=batch)
    return replace(changed, precision=precision) if hasattr(changed, "precision") else changed


def jobs(architectures: list[int], scope: str = "all") -> Iterator[Job]:
    """What to compile, by `scope`.

    "main": the default configuration of each main case in float16 (or e4m3, where the case is in
    that); "defaults": those of other precisions and of a batch of 1 as well; "all": every other
    configuration of the main cases in float16, and what a tuner tries in float32, too.
    """
    quick = scope == "main"
    for row, kernel in enumerate(KERNELS):
        for number, case in enumerate(kernel.main_cases):
            eight = case.dtype == E4M3
            kinds = [(case.dtype if eight else torch.float16, "ieee", case.batch)]
            if eight and not quick:
                kinds += [(E4M3, "ieee", 1)]
            elif not quick:
                kinds += [(torch.float16, "ieee", 1)]
                kinds += [(torch.bfloat16, "ieee", case.batch), (torch.float32, "ieee", case.batch)]
                kinds += [(torch.float32, "tf32", case.batch)] if kernel.multiplies else []
            for architecture in architectures:
                if e4m3.needed_by(case) and not e4m3.exists_on(divmod(architecture, 10)):
                    continue
                seen = set()
                for kind in kinds:
                    asked = problem(kernel, number, *kind)
                    configs = kernel.configs(asked, divmod(architecture, 10))
                    refined = tiles.refinements(configs[0], divmod(architecture, 10))
                    if scope != "all":
                        configs = configs[:1]
                    elif kind != kinds[0]:
                        configs = (configs[0], *(c for c in configs if c.tf32x3))
                    elif kernel.multiplies:
                        configs = (*configs, *refined)
                    for place, config in enumerate(configs):
                        if (*kind, config) not in seen:
                            seen.add((*kind, config))
                            yield Job(row, number, *kind, config, architecture, place == 0)


def run(job: Job) -> list[Report]:
    inputs = job.row.inputs(job.problem(), None, torch.device("meta"))
    # In 16 bits the engine's guard against NaN is always on; no layer in 8 bits is the last.
    guarded = job.dtype not in (torch.float32, E4M3)
    flag = torch.empty(1, dtype=torch.int32, device="meta") if guarded else None
    prepared = job.row.prepare(**inputs.launch, config=job.config, flag=flag)
    return [report(call, job.architecture) for call in prepared.calls]


def faults(job: Job, found: Report) -> list[str]:
    """What is wrong with a compiled kernel."""
    wrong = []
    if job.is_default and (found.spills or found.stack):
        wrong.append(f"{found.spills} spills, {found.stack} bytes of stack")
    if found.over_limit:
        wrong.append(f"{found.shared} bytes of shared memory are more than a block can have")
    if job.is_main and job.row.multiplies:
        needed = NEEDED[job.architecture]
        if found.tensor_cores != needed:
            wrong.append(f"multiplies with {found.tensor_cores}, not {needed}")
        if found.copies == "none":
            wrong.append("loads are not overlapped with multiplications")
        if job.dtype == E4M3 and not found.eight_bit:
            wrong.append("multiplies in more than 8 bits")
    if job.is_main and found.widest_load < 16:
        wrong.append(f"loads of {found.widest_load} bytes, not 16")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--quick", action="store_true", help="defaults of large batches, float16")
    kinds.add_argument("--defaults", action="store_true", help="those of every precision and size")
    parser.add_argument("--architectures", default=",".join(map(str, ARCHITECTURES)))
    parser.add_argument("--kernels", default=",".join(kernel.name for kernel in KERNELS))
    parser.add_argument("--tilings", default="", help="those alone with this in their label")
    parser.add_argument("--missing", action="store_true", help="those that no results are of yet")
    parser.add_argument("--check", action="store_true", help="write no files")
    parser.add_argument("--verify", action="store_true", help="compile nothing, see `verify`")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    architectures = [int(name) for name in arguments.architectures.split(",")]
    for architecture in set(architectures) - set(ARCHITECTURES):
        needed = ", ".join(map(str, ARCHITECTURES))
        parser.error(f"--architectures: found {architecture}, needed some of {needed}")

    names = arguments.kernels.split(",")
    scope = "main" if arguments.quick else "defaults" if arguments.defaults else "all"
    todo = [
        job
        for job in jobs(architectures, scope)
        if job.row.name in names and arguments.tilings in job.config.label
    ]
    if arguments.verify:
        return verify(todo)
    if arguments.missing:
        done = known()
        todo = [job for job in todo if place(job) not in done]
    rows, failures = [], []
    with ProcessPoolExecutor(arguments.workers) as pool:
        try:
            for job, reports in zip(todo, pool.map(run, todo), strict=True):
                main_report = reports[0]
                name = title(job)
                wrong = [fault for found in reports for fault in faults(job, found)]
                failures += [f"{name}: {fault}" for fault in wrong]
                where = {"default": job.is_default, "main": job.is_main}
                rows.append({**key(job), **where, **asdict(main_report)})
                print(f"{name}: {summary(main_report)}", flush=True)
        except KeyboardInterrupt:  # hours are lost otherwise; `--missing` goes on from there
            pool.shutdown(cancel_futures=True)
            print(f"stopped at {len(rows)} of {len(todo)}", file=sys.stderr)
    for failure in failures:
        print("FAULT", failure, file=sys.stderr)
    print(f"{len(rows)} configurations, {len(failures)} faults")
    if not arguments.check:
        write(rows)
    return 1 if failures else 0


def verify(todo: list[Job]) -> int:
    """Whether the results on disk hold each of these, without a fault; prints what is wrong."""
    done, failures = known(), []
    for job in todo:
        found = done.get(place(job))
        wrong = ["not compiled"] if found is None else faults(job, found)
        failures += [f"{title(job)}: {fault}" for fault in wrong]
    for failure in failures:
        print("FAULT", failure, file=sys.stderr)
    print(f"{len(todo)} configurations, {len(failures)} faults")
    if failures:
        print("compile those kernels again: python -m benchmarks.static_report --kernels NAME")
    return 1 if failures else 0


def known() -> dict[tuple, Report]:
    """The results on disk, by `place`."""
    names = [field.name for field in fields(Report)]
    return {
        tuple(row[name] for name in (*KEY, "architecture")): Report(**{n: row[n] for n in names})
        for row in json.loads(RESULTS.read_text())["rows"]
    }


def place(job: Job) -> tuple:
    """What its row of the results is found by."""
    return (*key(job).values(), job.architecture)


KEY = ("kernel", "case", "dtype", "batch", "config")


def key(job: Job) -> dict[str, object]:
    """What a row of the results is found by, beside the architecture."""
    label = job.problem().label
    values = (job.row.name, label, name_of(job), job.batch, job.config.label)
    return dict(zip(KEY, values, strict=True))


def title(job: Job) -> str:
    label = job.problem().label
    return f"{job.row.name} {label} {name_of(job)} {job.config.label} sm_{job.architecture}"


def name_of(job: Job) -> str:
    dtype = str(job.dtype).removeprefix("torch.")
    return "tf32" if job.precision == "tf32" else dtype


def summary(found: Report) -> str:
    return (
        f"{found.registers} registers, {found.spills} spilled, {found.shared} B shared, "
        f"{found.occupancy:.0%} occupancy, {found.tensor_cores}, {found.copies} copies, "
        f"{found.widest_load} B loads, loop of {found.loop}"
    )


def write(rows: list[dict]) -> None:
    """Puts new rows in the place of older ones, and drops those that there is no job for."""
    names = (*KEY, "architecture")
    done = {tuple(row[name] for name in names) for row in rows}
    wanted = {
        place(job): {"default": job.is_default, "main": job.is_main}
        for job in jobs(list(ARCHITECTURES))
    }
    if RESULTS.exists():
        old = json.loads(RESULTS.read_text())
        if old["triton"] == triton.__version__:
            rows_before = {tuple(row[name] for name in names): row for row in old["rows"]}
            kept = [one for one in rows_before if one in wanted and one not in done]
            rows = [rows_before[one] | wanted[one] for one in kept] + rows
    order = [kernel.name for kernel in KERNELS]
    rows.sort(key=lambda row: (order.index(row["kernel"]), row["case"], row["architecture"]))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    RESULTS.write_text(f'{{"triton": "{triton.__version__}", "rows": [\n{lines}\n]}}\n')
    before, rest = DOCUMENT.read_text().split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(before + BEGIN + "\n" + table(rows) + END + after)


def table(rows: list[dict]) -> str:
    """The defaults of the main cases in float16 or e4m3 at their own batch, as Markdown."""
    lines = [
        f"Triton {triton.__version__}; {len(rows)} configurations compiled, of which the defaults "
        "in float16 and e4m3 are shown (all are in `benchmarks/results/static/kernels.json`).",
        "",
        "| kernel | problem | GPU | tile, warps, stages | registers | spills | shared | "
        "occupancy | multiplies with | copies | load | loop |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["main"] and row["dtype"] in ("float16", "float8_e4m3fn"):
            lines.append(
                f"| {row['kernel']} | {row['case']} | sm_{row['architecture']} | {row['config']} | "
                f"{row['registers']} | {row['spills']} | {row['shared'] / 1024:.0f} KiB | "
                f"{row['occupancy']:.0%} | {row['tensor_cores']} | {row['copies']} | "
                f"{row['widest_load']} B | {row['loop']} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
