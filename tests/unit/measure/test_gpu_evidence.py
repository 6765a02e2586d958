"""The evidence script, rehearsed: every part's code path, on tiny models, without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import checks, readme, summary
from benchmarks.gpu.cells import Cells
from benchmarks.gpu.parts import QUICK
from benchmarks.gpu.promises import Promise, promises
from benchmarks.gpu.roofline import roofline
from benchmarks.gpu.zoo import SMALL, ZOO

ROOT = Path(__file__).parents[3]


def _run(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--out", str(out), "--dry-run"]
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_part_runs(tmp_path: Path) -> None:
    done = _run(tmp_path, "--full")
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


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("fault", "said"), [("crash", "was lost"), ("illegal", "illegal memory")])
def test_what_is_lost_costs_its_cell_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    monkeypatch.setenv("FASTGAN_REHEARSAL", f"{fault} conv_kernel")
    done = _run(tmp_path, "--part", "smoke")
    part = json.loads((tmp_path / "smoke.json").read_text())
    bad = {key: cell["error"] for key, cell in part["cells"].items() if "error" in cell}
    assert done.returncode == 1, done.stdout + done.stderr
    assert part["complete"]
    lost = {"dcgan64 n=1 float32", "dcgan64 n=1 uint8"}  # each is a kernel of its own
    assert set(bad) == {*lost, "fallbacks"}, bad
    assert all(said in bad[key] for key in lost)
    assert "convolution" in bad["fallbacks"]
    assert "3 failed" in (tmp_path / "summary.md").read_text()


#: What goes wrong in the rehearsal of the whole, and what is said of it.
FAULTS = {
    "smoke/latents uniform": ("wrong", "numbers are not the CPU's"),
    "smoke/dcgan64 n=1 float32": ("crash", "was lost"),
    "dcgan64/latency prepared uint8": ("illegal", "illegal memory"),
    "dcgan64/host": ("hang", "was lost"),
}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_whole_run_outlives_what_goes_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash, a hang, a GPU that fails and wrong numbers, each in a cell of its own."""
    out, log = tmp_path / "out", tmp_path / "log"
    kinds = {cell: kind for cell, (kind, _) in FAULTS.items()}
    monkeypatch.setenv("FASTGAN_REHEARSAL", json.dumps(kinds))
    command = [sys.executable, "-m", "benchmarks.gpu_evidence", "--out", str(out), "--dry-run"]
    seen: list[dict[str, dict[str, Any]]] = []
    with (
        log.open("w") as file,
        subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file) as running,
    ):
        while running.poll() is None:
            state = _parts(out)
            if state not in seen[-1:]:
                seen.append(state)
            time.sleep(0.05)
    final = _parts(out)
    assert running.returncode == 1, log.read_text()[-3000:]
    assert set(final) == set(QUICK)
    assert all(part["complete"] and "error" not in part for part in final.values())

    bad = {
        f"{name}/{key}": cell["error"]
        for name, part in final.items()
        for key, cell in part["cells"].items()
        if "error" in cell
    }
    # What a crash has taken is not launched again, and that is reported as well.
    assert "did not come back" in bad.pop("smoke/fallbacks")
    assert set(bad) == set(FAULTS)
    for cell, (_, said) in FAULTS.items():
        assert said in bad[cell]

    # At any moment: what is there is final, complete is only what is whole, a page can be written.
    assert len(seen) > len(FAULTS)
    for number, state in enumerate(seen):
        for name, part in state.items():
            assert part["cells"].items() <= final[name]["cells"].items()
            assert not part["complete"] or part == final[name]
        text = _page(tmp_path / str(number), state)
        assert "| latents: those of the CPU, bit for bit | the same |" in text
    assert "failed: uniform | **missed** |" in text


def _parts(out: Path) -> dict[str, dict[str, Any]]:
    paths = [path for path in out.glob("*.json") if path.stem != "machine"]
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _page(folder: Path, parts: dict[str, dict[str, Any]]) -> str:
    """The README's block from these parts, as if they were a GPU's."""
    folder.mkdir()
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(part))
    (folder / "machine.json").write_text(json.dumps({"torch_cuda": {"name": "Imagined 1"}}))
    page = folder / "README.md"
    page.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    readme.write(folder, page)
    return page.read_text()


def test_a_hang_ends_its_process(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    code = "import sys, time, pathlib; from benchmarks.gpu.cells import Cells; "
    code += "Cells(pathlib.Path(sys.argv[1]), 1e18, 0.5).fill('a', lambda: time.sleep(600))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True)
    assert done.returncode != 0
    assert json.loads(path.read_text())["running"] == "a"
    assert not json.loads(path.read_text())["complete"]
    again = Cells(path, deadline=1e18)
    again.fill("a", lambda: pytest.fail("made again"))
    again.fill("b", lambda: {"x": 1})
    again.finish()
    found = json.loads(path.read_text())
    assert "crashed or hung" in found["cells"]["a"]["error"]
    assert found["complete"]


def test_garbage_does_not_pass() -> None:
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    for precision in ("fp32", "tf32", "fp16", "bf16", "fp8"):
        checks.judge(x, x, precision, (-1, 1))
        with pytest.raises(AssertionError, match=precision):
            checks.judge(x, -x, precision, (-1, 1))
        with pytest.raises(AssertionError, match=precision):
            checks.judge(x * torch.nan, x, precision, (-1, 1))


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
    late.finish()
    assert not json.loads(path.read_text())["complete"]


def test_ours_fails_a_run_in_every_part_and_others_in_none(tmp_path: Path) -> None:
    bad = {"error": "its process was lost (-9)"}
    keys = {
        "ceilings": ("latents", "product fp8"),
        "throughput-dcgan64": ("fastgan fp16 n=1", "compile fp16 n=1", "eager fp32 n=1"),
        "latency": ("dcgan64 fastgan fp16 uint8", "dcgan64 onnxruntime"),
        "tune": ("dcgan64 n=1",),
    }
    for name, each in keys.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"cells": dict.fromkeys(each, bad)}))
    text, failures = summary.write(tmp_path)
    assert failures == 4
    assert "throughput-dcgan64: 0 passed, 1 failed, 2 of others failed" in text


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


def _run_of(ours: float, theirs: float) -> dict[str, dict[str, dict[str, object]]]:
    """A run in which everything of ours takes so long, and everything of the others."""
    mine = {"p50": ours, "precision": "fp16", "flops": 6e8, "bytes": 10.0, "n": 1024}
    rivals = ("eager fp16 channels-last graph", "compile fp16", "eager fp32")
    sizes = (1, 1024)
    return {
        "ceilings": {
            "product fp16": {"rate": 1e12},
            "copy": {"rate": 1e12},
            "write": {"rate": 100.0},
            "latents": {"rate": 75.0},
        },
        "latency": {"dcgan64 fastgan fp16 float32": {"p50": 79e-6, "p99": 161e-6}},
        "models": {"latents normal": {"ok": True}, "latents uniform": {"error": "3 differ"}},
        "throughput-dcgan64": {
            **{f"fastgan fp16 n={n}": mine for n in sizes},
            **{f"{rival} n={n}": {"p50": theirs, "n": n} for rival in rivals for n in sizes},
            "compile fp16 max-autotune n=1": {"error": "no"},
        },
    }


def test_promises_are_judged() -> None:
    found = promises(_run_of(1e-3, 2e-3))
    assert [p.kept for p in found[:3]] == [True, True, False]
    assert [p.kept for p in found[3:5]] == [True, False]
    assert [p.kept for p in found[5:9]] == [True] * 4
    assert [p.kept for p in found[9:]] == [True, False]
    assert found[0].found == "60%"
    assert found[1].found == "2.00 times"
    assert "uniform" in found[-1].found
    slow = promises(_run_of(2e-3, 1e-3))
    assert [p.kept for p in slow[:3]] == [False] * 3
    assert [p.kept for p in slow[5:9]] == [False] * 4


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    assert all(p == Promise(p.what, p.promised, p.estimated) for p in promises({}))


def test_promises_stand_in_the_docs_with_their_estimates() -> None:
    text = (ROOT / "docs" / "kernels.md").read_text()
    for p in promises({}):
        assert f"| {p.what} | {p.promised} | {p.estimated} |" in text


def test_the_readme_is_written_from_a_run(tmp_path: Path) -> None:
    for name, part in _run_of(1e-3, 2e-3).items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"cells": part}))
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    (tmp_path / "machine.json").write_text("{}")
    with pytest.raises(ValueError, match="without a GPU"):
        readme.write(tmp_path, page)
    (tmp_path / "machine.json").write_text(json.dumps({"torch_cuda": {"name": "Imagined 1"}}))
    readme.write(tmp_path, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "Imagined 1" in text
    assert "| dcgan64 | 1024 | 1,024,000 | 512,000 (" in text


def test_the_readme_has_its_marks() -> None:
    text = readme.README.read_text()
    assert text.count(readme.BEGIN) == text.count(readme.END) == 1
