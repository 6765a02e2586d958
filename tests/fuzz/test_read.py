"""Fuzzing for a bounded time: whatever the bytes, `read` gives a model or one of our errors, within
time and memory, and what it accepts does not end the process of a runtime that loads it.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgan.errors import FastganError
from fastgan.model.file import ModelFile, read
from tests.fuzz.mutate import corpus, mutant, mutate_bytes

#: Of the processor's time, which other processes take none of: milliseconds, unless it hangs.
SECONDS, MEGABYTES = 60.0, 512

bounded = settings(
    max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def holds(data: bytes) -> None:
    """The invariant of reading."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    error: FastganError | None = None
    try:
        assert isinstance(read(data), ModelFile)
    except FastganError as caught:
        error = caught
    if error is not None:
        # A cause is a library's exception that a check should have come before.
        assert error.__cause__ is None, str(error)
        assert error.where
        assert error.found
        assert error.needed
    assert time.process_time() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < MEGABYTES


@bounded
@given(seed=st.integers(0, 1 << 48))
def test_mutants_of_valid_models(seed: int) -> None:
    holds(mutant(random.Random(seed), corpus()))


@bounded
@given(seed=st.integers(0, 1 << 48))
def test_mutants_of_bytes(seed: int) -> None:
    rng = random.Random(seed)
    holds(mutate_bytes(rng, rng.choice(corpus())))


@bounded
@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    holds(data)
    holds(b"\x08\x08\x3a" + bytes([len(data) & 127]) + data)


LOAD = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 4
for path in sys.argv[1:]:
    print(path, flush=True)
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:
        pass
print("done")
"""


def test_what_is_accepted_does_not_end_a_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    accepted: list[str] = []
    for seed in range(1200):
        try:
            model = read(mutant(random.Random(seed), corpus()))
        except FastganError:
            continue
        path = tmp_path / f"{seed}.onnx"
        data = model.to_runtime()
        assert isinstance(data, bytes)
        path.write_bytes(data)
        accepted.append(str(path))
    assert len(accepted) > 200
    child = subprocess.run(
        [sys.executable, "-c", LOAD, *accepted], capture_output=True, text=True, timeout=600
    )
    lines = child.stdout.split()
    assert child.returncode == 0, f"status {child.returncode} at {lines[-1:]}"
    assert lines[-1] == "done"
