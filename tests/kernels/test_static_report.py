"""The compiler's side of the kernels: no spills, the tensor cores in use, with no GPU present."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import triton

from benchmarks import machine_code, static_report
from benchmarks.compiled import LIMITS, Report, loop_length, occupancy, widest_load
from benchmarks.static_report import Job, faults, jobs, main, place
from fastgan.kernels.e4m3 import E4M3
from fastgan.kernels.table import KERNELS
from fastgan.kernels.types import Config

ROOT = Path(__file__).parents[2]


def has_assembler() -> bool:
    try:
        return all(Path(getattr(triton.knobs.nvidia, name).path).exists() for name in TOOLS)
    except RuntimeError:
        return False


TOOLS = ("ptxas", "nvdisasm")


@pytest.mark.slow
@pytest.mark.skipif(not has_assembler(), reason=f"this Triton comes without {' and '.join(TOOLS)}")
def test_main_kernels_compile_cleanly():
    # By itself: in this process Triton may be interpreting.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.static_report", "--quick", "--check"]
    command += ["--kernels", "conv_transpose,linear", "--workers", "1"]
    command += ["--architectures", "80,90"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert last == "21 configurations, 0 faults"
    assert sum("sm_80" in line for line in lines) == 9
    assert sum("sm_90" in line for line in lines) == 12  # and those in e4m3
    assert all(("wgmma" in line) == ("sm_90" in line) for line in lines)


class Interrupted:
    """A pool that compiles one launch, and is then interrupted."""

    def __init__(self, workers: int) -> None: ...

    def __enter__(self) -> "Interrupted":
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, run: object, todo: list[Job]) -> Iterator[list[Report]]:
        yield [next(iter(static_report.known().values()))]
        raise KeyboardInterrupt

    def shutdown(self, cancel_futures: bool) -> None:
        assert cancel_futures


def test_an_interrupt_keeps_what_is_compiled(monkeypatch, capsys):
    kept = []
    monkeypatch.setattr(static_report, "ProcessPoolExecutor", Interrupted)
    monkeypatch.setattr(static_report, "write", kept.extend)
    monkeypatch.setattr(sys, "argv", ["static_report", "--quick", "--kernels", "to_image"])
    main()
    assert [row["kernel"] for row in kept] == ["to_image"]
    assert "stopped at 1 of" in capsys.readouterr().err


def test_the_report_is_of_these_kernels_and_clean():
    """All six architectures, from the results on disk: a new case or tiling has to be compiled."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.static_report", "--defaults", "--verify"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not has_assembler(), reason=f"this Triton comes without {' and '.join(TOOLS)}")
@pytest.mark.skipif(not machine_code.stored(), reason="nothing is kept of this Triton")
def test_the_machine_code_is_what_it_was():
    """Of one kernel; where a difference is meant, `python -m benchmarks.machine_code --write`."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.machine_code", "--kernels", "linear"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 compiled" in done.stdout
    assert "0 other than before, 0 that were not there" in done.stdout


def test_another_machine_code_is_named():
    before = {"a": [[32, 0, 100, "0f"]], "b": [[40, 0, 90, "1e"]], "gone": [[1, 0, 1, "2d"]]}
    after = {"a": [[32, 0, 100, "0f"]], "b": [[40, 2, 90, "3c"]], "new": [[2, 0, 2, "4b"]]}
    (found,) = machine_code.differences(before, after)
    assert found.startswith("b: [[40, 0, 90, '1e']] before, [[40, 2, 90, '3c']] now")


def test_what_is_missing_is_compiled_alone(monkeypatch, capsys):
    there = {place(job) for job in jobs([80, 90], "main")}
    monkeypatch.setattr("benchmarks.static_report.known", lambda: there)
    chosen = ["--quick", "--architectures", "80,90", "--check", "--missing"]
    monkeypatch.setattr(sys, "argv", ["static_report", *chosen])
    assert main() == 0
    assert capsys.readouterr().out == "0 configurations, 0 faults\n"


def test_what_the_engine_refuses_is_not_compiled(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["static_report", "--quick", "--check", "--architectures", "75"]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "found 75, needed some of 80, 86" in capsys.readouterr().err


CLEAN = Report(
    architecture=90,
    registers=90,
    spills=0,
    stack=0,
    shared=98304,
    warps=8,
    occupancy=0.25,
    tensor_cores="wgmma",
    eight_bit=False,
    copies="bulk",
    widest_load=16,
    loop=94,
    over_limit=False,
)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"spills": 3}, "3 spills"),
        ({"stack": 8}, "8 bytes of stack"),
        ({"over_limit": True}, "shared memory"),
        ({"tensor_cores": "mma"}, "multiplies with mma, not wgmma"),
        ({"copies": "none"}, "not overlapped"),
        ({"widest_load": 4}, "loads of 4 bytes"),
        ({"dtype": E4M3}, "more than 8 bits"),
        ({"dtype": E4M3, "eight_bit": True}, None),
    ],
)
def test_faults_are_found(changes, fault):
    row = [kernel.name for kernel in KERNELS].index("conv_transpose")
    batch = KERNELS[row].main_cases[0].batch
    config = Config(128, 128, 64)
    dtype = changes.get("dtype", torch.float16)
    changes = {name: value for name, value in changes.items() if name != "dtype"}
    job = Job(row, 0, dtype, "ieee", batch, config, 90, True)
    found = faults(job, replace(CLEAN, **changes))
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]


def test_reading_machine_code():
    instructions = [
        "MOV R1, R2",
        "LDG.E.64 R2, [R4]",
        "HGMMA.64x128x16.F32 R8",
        "@P0 BRA `(.L_x_0)",
    ]
    assert widest_load(instructions) == 8
    assert widest_load([*instructions, "LDGSTS.E.BYPASS.128 [R1], [R2]"]) == 16
    assert loop_length(instructions, {".L_x_0": 1}) == 3
    assert loop_length(instructions[:3], {".L_x_0": 1}) == 0


def test_occupancy_is_bound_by_the_scarcest_resource():
    # Two blocks of 8 warps by shared memory; 128 registers would allow as many, 130 only one.
    assert occupancy(LIMITS[90], 128, 98304, 8) == 0.25
    assert occupancy(LIMITS[90], 130, 98304, 8) == 0.125
    assert occupancy(LIMITS[90], 32, 0, 4) == 1.0
