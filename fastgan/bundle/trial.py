"""A bundle run as other processors would, each in a process of its own, which alone can be capped.

FASTGAN_CPU=avx2 python -m fastgan.bundle.trial model.fgb
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from fastgan.errors import ArgumentError, BackendError
from fastgan.host.native import _native
from fastgan.host.processor import LEVELS, VARIABLE

#: Runs of which the shortest counts.
_RUNS = 10


def check(processors: list[str]) -> None:
    """Raise ArgumentError unless all are names of processors."""
    wrong = [name for name in processors if name not in LEVELS]
    if wrong:
        raise ArgumentError("--cpu", ", ".join(wrong), ", ".join(LEVELS))


def seconds(path: Path, processor: str) -> float | None:
    """What one run of the first program takes as on a processor; None where this one has less.

    Args:
        processor: a key of `host.processor.LEVELS`.

    Raises:
        BackendError: it did not run.
    """
    command = [sys.executable, "-m", __name__, os.fspath(path)]
    environment = {**os.environ, VARIABLE: processor}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BackendError(f"{path} as with {processor}", said, "a run")
    found = json.loads(done.stdout)
    return float(found["seconds"]) if processor in found["instructions"] else None


def _main(path: str) -> None:
    import torch  # the memory that it runs on

    bundle = _native.bundle.Bundle(path, 1 << 40)
    program = bundle.programs[0]
    runner = _native.bundle.Runner(bundle, 0, 1, program["bf16"])
    inputs, outputs = (
        [torch.zeros(sizes) for _, sizes in program[side]] for side in ("inputs", "outputs")
    )
    addresses = [x.data_ptr() for x in inputs], [y.data_ptr() for y in outputs]
    taken = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        runner.run(*addresses, 1)
        taken.append(time.perf_counter() - began)
    paths = (_native.runtime.path()[0], _native.runtime.bf16_path())
    print(json.dumps({"seconds": min(taken), "instructions": paths}))


if __name__ == "__main__":
    _main(sys.argv[1])
