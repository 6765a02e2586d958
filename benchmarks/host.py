"""What a call costs the host before the model runs: `generate` beside a prepared call, in one run.

    python -m benchmarks.host [--write]

Microseconds of one core, with the launch of the graph replaced by nothing: what is left is Python.
Blocks of calls of each kind take turns; shown are the least block, the median, and how many times
the median of `generate` without a run made ready that is. The engine is the GPU's
(`engine/triton`), on a device that needs no GPU and whose graphs do nothing when replayed.
With --write they go into docs/kernels.md, with the nodes of DCGAN-64's graph and the launches of
its check, as a rehearsed GPU counts them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What is promised of a call that was made ready, in microseconds.
PROMISED = 12.0

DOCUMENT = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- begin: host -->", "<!-- end: host -->"


def nothing() -> None:
    """A launch."""


def generator(path: Path) -> Any:
    """A small model on the GPU's engine, whose captured launches do nothing."""
    os.environ.setdefault("TRITON_INTERPRET", "1")
    from torch import nn

    import fastgan

    layers = (nn.ConvTranspose2d(4, 4, 2), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, 2), nn.Tanh())
    module = nn.Sequential(*layers)
    fastgan.export(module.eval(), path, latent=(4, 1, 1), verify=False)
    g = fastgan.load(path, backend="triton", device="cpu", precision="bf16")

    def capture(launch: Callable[[], None]) -> Callable[[], None]:
        launch()
        return nothing

    g._session.shared.capture = capture
    return g


def measure(turns: int, calls: int) -> dict[str, Any]:
    """Microseconds of a call, block by block."""
    with tempfile.TemporaryDirectory() as folder:
        g = generator(Path(folder) / "host.onnx")
    frame = g.prepare(1, format="uint8")
    out = frame().clone()
    kinds: dict[str, Callable[[int], object]] = {
        "`frame()`": lambda i: frame(),
        "`frame(seed=i)`, which sets the counter": lambda i: frame(seed=i),
        "`g.generate(1, start=i, out=out)`": lambda i: g.generate(
            1, start=i, format="uint8", out=out
        ),
        "the same batch by batch, as every call was": lambda i: g.generate(
            1, start=i, format="uint8", out=out, batch_size=1
        ),
    }
    blocks: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(turns):
        for name, call in kinds.items():
            began = time.thread_time()
            for i in range(calls):
                call(i + turn * calls)
            blocks[name].append((time.thread_time() - began) / calls * 1e6)
    return {"blocks": blocks, "calls": calls}


def counts() -> dict[str, int]:
    """Of DCGAN-64 in fp16 at a batch of 1 on a rehearsed GPU: nodes of its graph, steps, launches.

    Launches are those of a first image, with its check and without.
    """
    os.environ.setdefault("TRITON_INTERPRET", "1")
    import fastgan
    from benchmarks.gpu.zoo import ZOO
    from fastgan.engine.triton.rehearsal import rehearse

    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = ZOO[0].export(Path(folder))
        os.environ["FASTGAN_CACHE"] = folder
        for check in ("0", "1"):
            os.environ["FASTGAN_CHECK"] = check
            with rehearse() as gpu:
                g = fastgan.load(path, device="cuda:0", precision="fp16")
                session = g._session
                steps = session.executable(session.model.shapes(1)).plan.steps
                steps = [step for step in steps if step.op != "Reshape"]  # which launches nothing
                assert all(step.kernel != "library" for step in steps)
                gpu.log.clear()
                frame = g.prepare(1, format="uint8")
                found[f"launches {check}"] = sum(one.startswith("launch") for one in gpu.log)
                gpu.log.clear()
                frame()
                inside = gpu.log[gpu.log.index("replay") :]
                found["nodes"] = sum(one.startswith(("launch", "op")) for one in inside)
                found["steps"] = len(steps)
                del g, frame, session
    return found


def document(found: dict[str, Any], counted: dict[str, int]) -> str:
    """Both as Markdown."""
    lines = ["| call | microseconds of a core, least block, median |", "|---|---|"]
    for name, each in found["blocks"].items():
        lines.append(f"| {name} | {min(each):.1f}, {statistics.median(each):.1f} |")
    checked = counted["launches 1"] - counted["launches 0"]
    lines += [
        "",
        "| DCGAN-64 in fp16, a batch of 1 | counted |",
        "|---|---|",
        f"| nodes of its graph | {counted['nodes']} |",
        f"| steps, each on a kernel | {counted['steps']} |",
        f"| launches that check them, once for a GPU and format | {checked} |",
    ]
    return "\n".join(lines)


def write(text: str) -> None:
    """Replace what stands between the two marks of the document."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="into docs/kernels.md")
    parser.add_argument("--check", action="store_true", help="exit code 1 if the promise is broken")
    options = parser.parse_args()
    found = measure(options.turns, options.calls)
    blocks = found["blocks"]
    *ready, last = blocks
    base = statistics.median(blocks[last])
    print(f"microseconds of a core for a call of one image, {options.turns} turns")
    for name, each in blocks.items():
        median = statistics.median(each)
        print(f"{name:43} {min(each):7.1f} at least, {median:7.1f} median, {base / median:5.1f}x")
    if options.json is not None:
        options.json.write_text(json.dumps(found) + "\n")
    if options.write:
        write(document(found, counts()))
    kept = all(min(blocks[name]) <= PROMISED for name in ready)
    return 1 if options.check and not kept else 0


if __name__ == "__main__":
    sys.exit(main())
