"""What the assembler makes of the kernels, instruction by instruction: is it what it was?

    python -m benchmarks.machine_code [--defaults] [--architectures 80,90] [--kernels conv]
                                      [--at COMMIT] [--write]

Compiles the main kernels as `static_report` does (--defaults: of every precision, and at a batch of
1 too), with no GPU, and holds registers, spills, the number of instructions and a hash of them to
what benchmarks/results/static/machine_code.json says, or to what COMMIT makes of them. Names what
is another, and exits with 1. For a change that is to change no machine code: run it before, and
after with --write where a difference is meant.

Numbers in instructions are masked in the hash: the offsets of parameters move with their order.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import triton

from benchmarks.compiled import LOCAL, compile_call, disassemble
from benchmarks.static_report import Job, jobs, key
from fastgan.kernels.e4m3 import E4M3
from fastgan.kernels.table import KERNELS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "static" / "machine_code.json"

#: By kernel, case, type, batch, tiling and architecture: of each launch what `measured` says.
Rows = dict[str, list[list[object]]]


def measured(job: Job) -> tuple[str, list[list[object]]]:
    """Of each launch of a job: registers, spills, how many instructions, a hash of them."""
    inputs = job.row.inputs(job.problem(), None, torch.device("meta"))
    guarded = job.dtype not in (torch.float32, E4M3)  # as in `static_report`
    flag = torch.empty(1, dtype=torch.int32, device="meta") if guarded else None
    launches: list[list[object]] = []
    for call in job.row.prepare(**inputs.launch, config=job.config, flag=flag).calls:
        compiled = compile_call(call, job.architecture)
        usage, instructions, _ = disassemble(compiled.asm["cubin"])
        spills = sum(bool(re.search(LOCAL, line)) for line in instructions)
        text = "\n".join(re.sub(r"-?\b0x[0-9a-f]+\b", "#", line) for line in instructions)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        launches.append([usage["REG"], spills, len(instructions), digest])
    name = " | ".join(str(part) for part in key(job).values())
    return f"{name} | sm_{job.architecture}", launches


def of_this_tree(architectures: list[int], kernels: list[str], scope: str, workers: int) -> Rows:
    """Compile what is asked for of the kernels that lie here."""
    todo = [job for job in jobs(architectures, scope) if job.row.name in kernels]
    rows: Rows = {}
    with ProcessPoolExecutor(workers) as pool:
        for name, launches in pool.map(measured, todo):
            rows[name] = launches
            print(name, *launches, file=sys.stderr, flush=True)
    return rows


def of_commit(commit: str, options: list[str]) -> Rows:
    """The same of the kernels of a commit, from the first that has `static_report` on."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        link = Path(folder, "fastgan", "kernels")
        if not link.exists():  # in older commits an install made it
            link.symlink_to("../kernels")
        shutil.copy(__file__, Path(folder, "benchmarks"))
        command = [sys.executable, "-m", "benchmarks.machine_code", "--print", *options]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
    rows: Rows = json.loads(done.stdout)
    return rows


def differences(before: Rows, after: Rows) -> list[str]:
    """What both have and is not the same, a line each."""
    return [
        f"{name}: {before[name]} before, {after[name]} now"
        for name in after
        if name in before and before[name] != after[name]
    ]


def stored() -> Rows:
    """What the file says, where it is of this Triton."""
    if not RESULTS.exists():
        return {}
    found = json.loads(RESULTS.read_text())
    rows: Rows = found["rows"] if found["triton"] == triton.__version__ else {}
    return rows


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--defaults", action="store_true", help="of every precision and size")
    parser.add_argument("--architectures", default="80,90")
    parser.add_argument("--kernels", default=",".join(kernel.name for kernel in KERNELS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--at", metavar="COMMIT", help="hold them to this commit's")
    parser.add_argument("--write", action="store_true", help="keep what there is now")
    parser.add_argument("--print", action="store_true", help="as JSON, and compare nothing")
    given = parser.parse_args()
    architectures = [int(name) for name in given.architectures.split(",")]
    scope = "defaults" if given.defaults else "main"
    after = of_this_tree(architectures, given.kernels.split(","), scope, given.workers)
    if given.print:
        print(json.dumps(after))
        return 0
    options = ["--architectures", given.architectures, "--kernels", given.kernels]
    options += ["--workers", str(given.workers), *["--defaults"] * given.defaults]
    before = of_commit(given.at, options) if given.at else stored()
    found = differences(before, after)
    for line in found:
        print(line)
    print(
        f"{len(after)} compiled with Triton {triton.__version__}, {len(found)} other than before, "
        f"{len(after.keys() - before.keys())} that were not there before"
    )
    if given.write:
        rows = dict(sorted((stored() | after).items()))
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rows[name])}" for name in rows)
        RESULTS.write_text(f'{{"triton": "{triton.__version__}", "rows": {{\n{lines}\n}}}}\n')
    return 1 if found and not given.write else 0


if __name__ == "__main__":
    sys.exit(main())
