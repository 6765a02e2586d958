"""The evidence script, rehearsed: every part's code path, on tiny models, without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.parts import Cells
from benchmarks.gpu.summary import roofline
from benchmarks.gpu.zoo import SMALL, ZOO

ROOT = Path(__file__).parents[2]


def _run(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--out", str(out), "--dry-run"]
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_part_runs(tmp_path: Path) -> None:
    done = _run(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for path in tmp_path.glob("*.json"):
        if path.stem == "machine":
            continue
        part = json.loads(path.read_text())
        assert part["complete"], path.stem
        assert part["cells"], path.stem
        assert "error" not in part, part
        for key, cell in part["cells"].items():
            # What has no counterpart on a CPU may fail; nothing of ours may.
            expected = "graph" in key or "onnxruntime" in key or key == "product fp8"
            assert expected or "error" not in cell, (path.stem, key, cell)
    assert "images/s" in (tmp_path / "summary.md").read_text()


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    done = _run(tmp_path, "--part", "speed")
    assert done.returncode == 2
    assert "'speed'" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stdout


def test_cells_are_kept_and_errors_too(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    cells = Cells(path, deadline=1e18)
    cells.fill("a", lambda: {"x": 1})
    cells.fill("b", lambda: 1 / 0)
    again = Cells(path, deadline=1e18)
    again.fill("a", lambda: pytest.fail("made again"))
    assert again.data["cells"]["a"]["x"] == 1
    assert "ZeroDivisionError" in again.data["cells"]["b"]["error"]
    late = Cells(path, deadline=0.0)
    late.fill("c", lambda: pytest.fail("time was up"))
    late.save()
    assert not json.loads(path.read_text())["complete"]


def test_roofline_is_the_slower_of_two() -> None:
    rates = {"product fp16": 1e12, "copy": 1e9}
    cell = {"precision": "fp16", "flops": 5e9, "bytes": 1e7, "p50": 0.02}
    assert roofline(cell, rates) == pytest.approx(0.5)
    assert roofline({**cell, "flops": 1e10}, rates) == pytest.approx(0.5)
    assert roofline({**cell, "flops": 1.5e10}, rates) == pytest.approx(0.75)
    assert roofline(cell, {}) is None
    eight = {**cell, "precision": "fp8", "flops": 3e10, "flops_fp8": 2e10}
    assert roofline(eight, rates | {"product fp8": 2e12}) == pytest.approx(1.0)


def test_the_whole_list_is_there() -> None:
    assert {e.name for e in ZOO} == {e.name for e in SMALL}
    assert len(ZOO) == 8
