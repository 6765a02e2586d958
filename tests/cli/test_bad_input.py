"""Whatever is wrong, a command ends with exit code 2 and one clear line on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.cli.conftest import build


def said(result, *words: str) -> None:
    assert result.code == 2, (result.code, result.out, result.err)
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("fastgan: ")
    assert "Traceback" not in result.err + result.out
    for word in words:
        assert word in result.err, f"{word!r} is not in {result.err!r}"


@pytest.fixture(params=["generate", "inspect", "compare", "bench"])
def command(request) -> str:
    """Each command that loads a model."""
    return request.param


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """No test writes its out/ into the repository."""
    monkeypatch.chdir(tmp_path)


# Files -------------------------------------------------------------------------------------------


def test_a_missing_file(fastgan, command) -> None:
    said(fastgan(command, "nowhere.onnx"), "nowhere.onnx", "no such file")


def test_not_onnx(fastgan, command, tmp_path) -> None:
    path = tmp_path / "cat.onnx"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    said(fastgan(command, path), "cat.onnx")


def test_an_empty_file(fastgan, command, tmp_path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(b"")
    said(fastgan(command, path), "empty.onnx")


def test_a_folder(fastgan, command, tmp_path) -> None:
    said(fastgan(command, tmp_path), tmp_path.name)


def test_truncated(fastgan, command, rgb, tmp_path) -> None:
    data = rgb.read_bytes()
    for keep in (len(data) // 2, len(data) - 7):
        path = tmp_path / "half.onnx"
        path.write_bytes(data[:keep])
        said(fastgan(command, path), "half.onnx")


def test_external_data_outside_the_folder(fastgan, command, tmp_path) -> None:
    (tmp_path / "secret").write_bytes(bytes(10_000))
    model = build()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    said(fastgan(command, path), "model.onnx", "../secret")


def test_an_op_that_nothing_supports_is_named_with_its_node(fastgan, command, tmp_path) -> None:
    model = build()
    model.graph.node[-1].CopyFrom(
        helper.make_node("Swizzle", ["x3"], ["image"], "the_odd_one", domain="com.example")
    )
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    said(fastgan(command, path), "Swizzle", "the_odd_one")


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--n", "0"], ["--n", "0"]),
        (["--n", "-3"], ["--n", "-3"]),
        (["--n", "many"], ["--n"]),
        (["--n", "2", "--seeds", "1,2"], ["--n", "--seeds"]),
        (["--seeds", "9-5"], ["--seeds", "9-5"]),
        (["--seeds", "-5"], ["--seeds"]),
        (["--seeds", "1,,2"], ["--seeds"]),
        (["--seeds", ""], ["--seeds"]),
        (["--seeds", "a-b"], ["--seeds", "a-b"]),
        (["--seeds", "1-3,2"], ["--seeds", "2 twice"]),
        (["--seeds", str(2**64)], ["--seeds", str(2**64)]),
        (["--seeds", "9" * 5000], ["--seeds"]),
        (["--seeds", f"0-{2**64 - 1}", "--grid", "2x2"], ["--grid", "4 cells"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--start", "-1"], ["start", "-1"]),
        (["--grid", "8"], ["--grid", "'8'"]),
        (["--grid", "0x8"], ["--grid", "0x8"]),
        (["--grid", "8x8x8"], ["--grid"]),
        (["--grid", "99999x99999"], ["--grid"]),
        (["--grid", "2x2", "--n", "5"], ["--grid", "4 cells for 5"]),
        (["--grid", "2x2", "--format", "npy"], ["--grid"]),
        (["--format", "gif"], ["--format", "gif", "png"]),
        (["--trunc", "0"], ["truncation", "0"]),
        (["--trunc", "nan"], ["truncation"]),
        (["--class", "1"], ["labels", "without classes"]),
        (["--rng", "dice"], ["rng", "dice"]),
        (["--batch-size", "0"], ["batch_size", "0"]),
        (["--device", "toaster"], ["device", "toaster"]),
        (["--backend", "magic"], ["backend", "magic"]),
        (["--precision", "fp3"], ["precision", "fp3"]),
        (["--backend", "ort", "--precision", "bf16"], ["ort", "bf16"]),
        (["--precision", "fp8"], ["fp8", "compute capability 8.9", "or take"]),
        (["--sees", "1"], ["--sees"]),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_options_of_generate(fastgan, rgb, tmp_path, options, words) -> None:
    said(fastgan("generate", rgb, *options), *words)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("label", ["4", "-1", "cow"])
def test_a_class_out_of_range(fastgan, folder, label) -> None:
    said(fastgan("generate", folder / "classes.onnx", "--class", label), "--class", label)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "--batch", "0"], ["--batch", "0"]),
        (["compare", "--n", "0"], ["--n", "0"]),
        (["compare", "--reference", "crystal"], ["--reference", "crystal"]),
        (["bench", "--n", "0"], ["--n", "'0'"]),
        (["bench", "--n", "1;2"], ["--n", "1;2"]),
        (["bench", "--threads", "0"], ["--threads", "0"]),
        (["bench", "--seconds", "0"], ["--seconds", "0"]),
        (["bench", "--peers", "abacus"], ["--peers", "abacus", "onnxruntime"]),
        (["bench", "--n", "1", "--plot", "x.flower"], ["x.flower"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_options_of_other_commands(fastgan, rgb, arguments, words) -> None:
    command, *options = arguments
    said(fastgan(command, rgb, *options), *words)


def test_unknown_commands_and_options(fastgan) -> None:
    said(fastgan("generat"), "generat")
    said(fastgan("--colour"), "--colour")
    said(fastgan("generate"), "MODEL")


# The machine -------------------------------------------------------------------------------------


def test_an_outdir_that_is_a_file(fastgan, rgb, tmp_path) -> None:
    (tmp_path / "taken").write_text("")
    said(fastgan("generate", rgb, "--outdir", tmp_path / "taken"), "taken")
    said(fastgan("generate", rgb, "--outdir", tmp_path / "taken" / "below"), "taken")


def test_an_outdir_without_write_permission(fastgan, rgb, tmp_path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        locked = Path("/proc/fastgan-out")  # root may write anywhere but here
    said(fastgan("generate", rgb, "--outdir", locked), str(locked))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk(fastgan, rgb, tmp_path, monkeypatch) -> None:
    """Files that go to a device that is always full."""
    from fastgan.host import files

    real = open
    monkeypatch.setattr(files, "open", lambda *_: real("/dev/full", "wb"), raising=False)
    said(fastgan("generate", rgb, "--n", 4, "--outdir", tmp_path), "No space left on device")


def test_no_memory(fastgan, rgb, monkeypatch) -> None:
    from fastgan.generator import Generator

    def starve(*arguments, **options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Generator, "generate", starve)
    said(fastgan("generate", rgb), "not enough memory", "--batch-size")


def test_a_fault_of_our_own_is_called_that(fastgan, rgb, monkeypatch) -> None:
    from fastgan.generator import Generator

    monkeypatch.setattr(Generator, "generate", lambda *a, **o: 1 / 0)
    result = fastgan("generate", rgb)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "please report it: ZeroDivisionError" in result.err
    verbose = fastgan("--verbose", "generate", rgb)
    assert "Traceback" in verbose.err


def shell(line: str, *, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


FASTGAN = f"{sys.executable} -c 'from fastgan.cli import main; main()'"


def test_what_is_not_installed_is_said(rgb, tmp_path) -> None:
    """An install that lost what it needs; it is no fault of the program."""
    lost = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    (tmp_path / "torch.py").write_text(lost)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "fastgan", "inspect", str(rgb)]
    made = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr == (
        "fastgan: torch is not installed, which fastgan needs; pip install torch\n"
    )


def test_in_a_process_of_its_own(tmp_path) -> None:
    done = shell(f"{FASTGAN} inspect nowhere.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fastgan: nowhere.onnx")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves(rgb, tmp_path) -> None:
    done = shell(f"set -o pipefail; {FASTGAN} inspect --json {rgb} | head -c 10", cwd=tmp_path)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("train", "dcgn"), "did you mean dcgan? See"),
        (("generate", "cgan-digits", "--class", "eleven"), "--class: found 'eleven'"),
        (("apply", "colour-tissue", "-i", "https://a.org/b.jpg"), "found https://a.org/b.jpg"),
    ],
)
def test_words_of_the_command_line(fastgan, command, words) -> None:
    result = fastgan(*command)
    assert result.code == 2
    assert words in result.err
    assert "Value error" not in result.err


def test_progress_where_there_is_no_terminal(monkeypatch, capsys) -> None:
    from fastgan.cli import console

    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress() as bar:
        task = bar.add_task("", total=30)
        for _ in range(30):
            now[0] += 1
            bar.advance(task)
    lines = capsys.readouterr().err.split("\n")
    assert lines == ["10 of 30", "20 of 30", "30 of 30", ""]
