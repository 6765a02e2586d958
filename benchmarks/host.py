"""What a call costs the host before the model runs: `generate` beside a prepared call, in one run.

    python -m benchmarks.host

Microseconds of one core, with the launch of the graph replaced by nothing: what is left is Python.
Blocks of calls of each kind take turns; shown are the least block, the median, and how many times
the median of `generate` without a run made ready that is. The engine is the GPU's
(`engine/triton`), on a device that needs no GPU and whose graphs do nothing when replayed.
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

#: What is promised of a prepared call, in microseconds.
PROMISED = 12.0


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
        "prepared, samples in a row": lambda i: frame(),
        "prepared, any sample": lambda i: frame(seed=i),
        "generate": lambda i: g.generate(1, start=i, format="uint8", out=out),
        "generate, batch by batch": lambda i: g.generate(
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help="exit code 1 if the promise is broken")
    options = parser.parse_args()
    found = measure(options.turns, options.calls)
    blocks = found["blocks"]
    base = statistics.median(blocks["generate, batch by batch"])
    print(f"microseconds of a core for a call of one image, {options.turns} turns")
    for name, each in blocks.items():
        median = statistics.median(each)
        print(f"{name:28} {min(each):7.1f} at least, {median:7.1f} median, {base / median:5.1f}x")
    if options.json is not None:
        options.json.write_text(json.dumps(found) + "\n")
    kept = min(blocks["prepared, samples in a row"]) <= PROMISED
    return 1 if options.check and not kept else 0


if __name__ == "__main__":
    sys.exit(main())
