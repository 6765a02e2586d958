"""The least time that each model of the evidence takes, for docs/kernels.md, with no GPU.

    python -m benchmarks.predictions [--gpu h200] [--precision fp16]

From published figures of the GPU: see fastgan/measure/floor.py for what is counted and what is not.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.gpu.zoo import ZOO, Entry
from fastgan.measure.floor import LAUNCH, floor
from fastgan.measure.published import GPUS
from fastgan.model.file import read
from fastgan.plan import make
from fastgan.plan.merge import merge

DOCUMENT = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- begin: predictions -->", "<!-- end: predictions -->"
BATCHES = (1, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", default="h200", choices=GPUS)
    parser.add_argument("--precision", default="fp16")
    arguments = parser.parse_args()
    gpu = GPUS[arguments.gpu]
    lines = [
        f"{gpu.name} in {arguments.precision}, by published figures, not measured: "
        f"{gpu.rates[arguments.precision] / 1e12:,.1f} TFLOP/s, {gpu.bandwidth / 1e9:,.0f} GB/s "
        f"({gpu.source}); {LAUNCH * 1e6:.1f} us a launch, assumed.",
        "",
        "| model | batch | steps | GFLOP per image | floor, ms | images/s at the floor | waits for "
        "compute, memory, launches | share of the roofline |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for entry in ZOO:
            lines += _rows(entry, Path(folder), arguments.gpu, arguments.precision)
            print(lines[-1], flush=True)
    before, rest = DOCUMENT.read_text().split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)


def _rows(entry: Entry, folder: Path, gpu: str, precision: str) -> list[str]:
    path = entry.export(folder)
    file = read(path)
    (port,) = file.model.graph.inputs
    rows = []
    for batch in BATCHES:
        plan = merge(make(file.model, {str(port.name): (batch, *entry.shape)}))
        found = floor(plan, GPUS[gpu], precision)
        waits = [
            sum(s.seconds for s in found.steps if s.bound == name) / found.seconds
            for name in ("compute", "memory", "launch")
        ]
        rows.append(
            f"| {entry.name} | {batch} | {sum(s.seconds > 0 for s in found.steps)} | "
            f"{plan.flops / batch / 1e9:.3g} | {found.seconds * 1e3:.3g} | "
            f"{batch / found.seconds:,.0f} | {', '.join(f'{share:.0%}' for share in waits)} | "
            f"{found.share:.0%} |"
        )
    path.unlink()
    return rows


if __name__ == "__main__":
    main()
