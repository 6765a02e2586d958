"""Tuning: what is measured is kept, used again, and never believed when it is damaged."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.engine.base import Target
from fastgan.engine.triton import check as triton_check
from fastgan.engine.triton import disk
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.disk import LIBRARY, Cache
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.engine.triton.steps import MEASURED
from fastgan.images.format import ImageFormat
from fastgan.kernels.types import Config
from fastgan.model.file import ModelFile, read
from tests.interpreted import INTERPRETED

pytestmark = INTERPRETED
HERE = {"gpu": "a", "driver": "b"}
TILE = Config(64, 32, 16, num_warps=8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, ModelFile]:
    torch.manual_seed(int(torch.randint(2**31, ())))
    module = nn.Sequential(
        nn.ConvTranspose2d(5, 6, 4, 1, 0),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
        nn.Tanh(),
    ).eval()
    path = tmp_path_factory.mktemp("tuning") / "m.onnx"
    fastgan.export(module, path, latent=(5, 1, 1), verify=False)
    return module, read(path)


def _executable(file: ModelFile, batch: int = 2) -> TritonExecutable:
    return TritonExecutable(file, Target(torch.device("cpu"), "fp32"), {"latent": (batch, 5, 1, 1)})


def test_choices_come_back(tmp_path: Path) -> None:
    path = tmp_path / "below" / "c.json"
    cache = Cache(path, HERE)
    assert cache.step("x") is None
    cache.put_step("x", TILE, {TILE.label: 1e-5})
    cache.put_step("y", LIBRARY, {})
    cache.put_batch("m", 64, 2e-6)
    cache.put_batch("m", 256, 1e-6)
    again = Cache(path, HERE)
    assert again.step("x") == TILE
    assert again.step("y") == LIBRARY
    assert again.batch("m") == 256
    assert again.batch("other") is None
    assert [p.name for p in path.parent.iterdir()] == ["c.json"]


_WRITES = """
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from fastgan.engine.triton.disk import Cache

cache = Cache(Path(sys.argv[1]), {"gpu": "a", "driver": "b"})
print("ready", flush=True)
sys.stdin.readline()
for count in range(40):
    cache.put_verdict(f"{sys.argv[2]} {count}", "ok")
    cache.put_verdict("running", "now")
    cache.put_batch("m", 2 * count + 1 + (sys.argv[2] == "b"), 1e-6)
cache.put_verdict("running", None)
"""


def test_two_processes_keep_what_both_found(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [
        subprocess.Popen([sys.executable, "-c", _WRITES, str(path), name], text=True, **pipes)
        for name in "ab"
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in both] == [0, 0]
    data = json.loads(path.read_text())
    assert set(data["checked"]) == {f"{name} {count}" for name in "ab" for count in range(40)}
    assert len(data["batches"]["m"]) == 80


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"environment": {"gpu": "other"}, "steps": {}, "batches": {}}',
        json.dumps({"environment": HERE}),
        json.dumps({"environment": HERE, "steps": {"x": {"choice": {"a": 1}}}, "batches": {}}),
        json.dumps({"environment": HERE, "steps": {"x": {"choice": "cpu"}}, "batches": {}}),
        json.dumps({"environment": HERE, "steps": {"x": 3}, "batches": {}}),
        json.dumps({"environment": HERE, "steps": [], "batches": {}}),
        json.dumps({"environment": HERE, "steps": {}, "batches": {"m": {"-3": 1.0}}}),
        json.dumps({"environment": HERE, "steps": {}, "batches": {"m": {"many": 1.0}}}),
    ],
)
def test_a_damaged_file_is_ignored_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with caplog.at_level(logging.WARNING, "fastgan"):
        cache = Cache(path, HERE)
        assert cache.step("x") is None
        assert cache.batch("m") is None
    assert len(caplog.records) == 1
    cache.put_step("x", TILE, {})
    assert Cache(path, HERE).step("x") == TILE


def test_binary_rubbish_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(bytes(range(256)))
    with caplog.at_level(logging.WARNING, "fastgan"):
        assert Cache(path, HERE).step("x") is None
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "fastgan"):
        Cache(tmp_path / "file" / "c.json", HERE).put_step("x", TILE, {})
    assert "not written" in caplog.text or "ignored" in caplog.text


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    return tmp_path / "tuning"


def _slow_library(run: Callable[[], object]) -> float:
    run()
    return 2.0 if "library" in getattr(run, "__qualname__", "") else 1.0


def _slow_kernels(run: Callable[[], object]) -> float:
    return 3.0 - _slow_library(run)


@pytest.mark.parametrize(("measure", "library"), [(_slow_library, False), (_slow_kernels, True)])
def test_the_fastest_is_taken_and_kept(
    file: tuple[nn.Module, ModelFile],
    cache: Path,
    measure: Callable[[Callable[[], object]], float],
    library: bool,
) -> None:
    executable = _executable(file[1])
    image = ImageFormat(executable.plan.outputs[0], "float32", (-1.0, 1.0))
    steps = [b for b in executable.steps.bindings if isinstance(b, Binding)]
    assert executable.tune(image, measure=measure) == len(steps) == 2
    kernels = {s.kernel for s in executable.plan.steps if s.op.startswith("fastgan")}
    assert (kernels == {"library"}) == library
    again = _executable(file[1])
    timed: list[object] = []
    assert again.tune(image, measure=lambda run: timed.append(run) or 1.0) == 0
    assert len(timed) == 1  # the whole run alone
    for one in (executable, again):
        x = torch.randn(2, 5, 1, 1)
        with torch.inference_mode():
            expected = file[0](x)
        assert (one.images({"latent": x}, image)[0] - expected).abs().max() <= 2e-5
    (path,) = cache.iterdir()
    stored = json.loads(path.read_text())
    assert stored["environment"]["gpu"] == "interpreter"
    assert len(stored["steps"]) == 2
    assert list(stored["batches"].values()) == [{"2": 0.5}]


def test_a_wrong_kernel_is_never_chosen(
    file: tuple[nn.Module, ModelFile],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    executable = _executable(file[1])
    monkeypatch.setattr(triton_check, "fault_of", lambda _: "it is wrong")
    with caplog.at_level(logging.WARNING, "fastgan"):
        executable.tune(None, measure=_slow_library)
    assert "is not taken: it is wrong" in caplog.text
    notes = {s.note for s in executable.plan.steps if s.op.startswith("fastgan")}
    assert notes == {MEASURED}


def test_no_time_left_measures_nothing(file: tuple[nn.Module, ModelFile], cache: Path) -> None:
    executable = _executable(file[1])
    assert executable.tune(None, seconds=-1.0, measure=_slow_library) == 0


def test_agreement_is_relative_and_refuses_nan() -> None:
    subject: Any = SimpleNamespace(image=None, binding=SimpleNamespace(output_high=None))

    def fault(found: Tensor, expected: Tensor) -> str | None:
        sums, worst = torch.zeros(2, dtype=torch.float64), torch.zeros(())
        differs = triton_check._compare(subject, found, expected, sums, worst)
        return differs or triton_check._judge(sums, worst, found.numel(), torch.float32, None)

    x = torch.randn(100)
    assert fault(x * (1 + 1e-4), x) is None
    assert "of its norm" in (fault(x * 1.01, x) or "")
    assert "finite" in (fault(torch.where(x > 2, torch.nan, x), x * torch.nan) or "")


def test_keys_tell_problems_apart(file: tuple[nn.Module, ModelFile]) -> None:
    keys = set()
    for batch in (1, 2):
        for bound in _executable(file[1], batch).steps.bindings:
            if isinstance(bound, Binding):
                keys.add(disk.step_key(bound))
    assert len(keys) == 4
    assert _executable(file[1], 1).steps.key == _executable(file[1], 4).steps.key


def test_warmup_without_a_gpu_says_so_in_one_line() -> None:
    code = "from fastgan.cli import main; main()"
    command = [sys.executable, "-c", code, "warmup", "dcgan-digits"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "NVIDIA GPU" in done.stderr
