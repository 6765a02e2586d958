"""What running a model takes of memory, in a process of its own: the peak, and pages faulted in.

fastgan's peak includes reading the file; a peer's begins with the file's bytes in memory, which
are not counted.
"""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.model.file import ModelFile
    from fastgan.model.opened import Model

_CALLS = 20


def measured(name: str, source: str, n: int, threads: int) -> dict[str, Any]:
    """Peak MB above what the imports take, and page faults of a repeated call.

    Args:
        name: "fastgan" or "onnxruntime".
        source: as for `fastgan.load`.
        n: samples to a call.
        threads: of the CPU.
    """
    command = [sys.executable, "-m", "benchmarks.footprint", name, source, str(n), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Markdown, a row for each network and size."""
    lines = [
        "| network | n | peak MB | ONNX Runtime's | page faults to a call | ONNX Runtime's |",
        "|---|---|---|---|---|---|",
    ]
    for case in cases:
        own, other = (case.get(name, {}) for name in ("fastgan", "onnxruntime"))
        cells = [
            f"{found[key]:.1f}" if key in found else "-"
            for key in ("peak_mb", "faults_per_call")
            for found in (own, other)
        ]
        lines.append(f"| {case['name']} | {case.get('n', '')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _main(name: str, source: str, n: int, threads: int) -> None:
    import onnxruntime  # noqa: F401  # both processes have both
    import torch

    import fastgan.plan.rewrite  # noqa: F401  # whose libraries are four hundred modules
    from fastgan.loading import open_model, start
    from fastgan.measure.bench import ours
    from fastgan.measure.bench.peers import PEERS, Setting, registry_module
    from fastgan.measure.subject import example_inputs

    torch.set_num_threads(threads)
    example_inputs(open_model("dcgan-digits"), 1)  # what the first use of anything loads
    if name != "fastgan":
        # A peer is given the file's bytes, which are not its own, nor is what reading them freed.
        model = _Read.of(open_model(source))
        ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    if name == "fastgan":
        model = open_model(source)
        run = ours(start(model, precision="fp32", device="cpu"), model, name)[-1].prepare(n)
    else:
        setting = Setting(model, torch.device("cpu"), threads, *registry_module(model))
        run = PEERS[name](setting).prepare(n)
    for _ in range(5):
        run()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(_CALLS):
        run()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    peak = (_status("VmHWM") - before) / 1024
    print(json.dumps({"peak_mb": peak, "faults_per_call": faults / _CALLS}))


class _Read:
    """A model whose bytes are in memory."""

    def __init__(self, file: ModelFile) -> None:
        self._data, self._file = file.to_runtime(), file

    @staticmethod
    def of(model: Model) -> Model:
        read: Any = _Read(model.file)
        return replace(model, file=read)

    def to_runtime(self) -> str | bytes:
        return self._data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _status(key: str) -> int:
    """In kB, as Linux counts it for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
