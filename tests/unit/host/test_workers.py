"""csrc/workers.h: each item of each stage is done once, and after all of the stage before."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[3] / "csrc"
CALLS = 4000


def test_each_item_is_done_once_and_in_its_stage(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on PATH")
    program = tmp_path / "workers"
    sources = [str(Path(__file__).with_name("workers.cpp")), str(CSRC / "workers.cpp")]
    flags = ["-std=c++17", "-O1", "-pthread", f"-I{CSRC}"]
    subprocess.run([compiler, *flags, *sources, "-o", str(program)], check=True)
    done = subprocess.run(
        [str(program), str(CALLS)], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "0"
