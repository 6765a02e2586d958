"""`inspect`, `compare`, `bench` and `doctor` on small models."""

from __future__ import annotations

import builtins
import json

import numpy as np
import onnx
import pytest
import torch

import fastgan as library
from fastgan.cli import doctor as doctor_command
from fastgan.measure import diagnosis, parity
from tests.cli.conftest import build

# inspect -----------------------------------------------------------------------------------------


def test_inspect_prints_the_signature_and_the_plan(fastgan, rgb) -> None:
    result = fastgan("inspect", rgb)
    assert (result.code, result.err) == (0, "")
    for text in ("rgb.onnx", "latent", "range [-1, 1]", "torch on cpu in fp32", "not triton"):
        assert text in result.out
    for node in ("dense", "up1", "up2", "tanh"):
        assert node in result.out
    assert "FLOP" in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 100


def test_inspect_as_json_agrees_with_the_plan(fastgan, rgb) -> None:
    facts = json.loads(fastgan("inspect", rgb, "--json", "--batch", 4).out)
    plan = library.load(rgb, backend="torch").plan(4)
    assert facts["plan"]["flops"] == plan.flops
    assert [step["op"] for step in facts["plan"]["steps"]] == [step.op for step in plan.steps]
    assert facts["plan"]["batch"] == 4
    assert facts["backend"] == "torch"
    assert facts["inputs"][0]["guessed"] is False
    # By hand: 6 x 64 of the dense layer, 16 inputs x 4 pixels and 8 x 16 pixels, each k x k x out.
    products = 6 * 64 + 16 * 4 * 8 * 16 + 8 * 16 * 3 * 9
    steps = {step["origin"][0]: step["flops"] for step in facts["plan"]["steps"]}
    assert steps["dense"] + steps["up1"] + steps["up2"] == 2 * 4 * products


def test_inspect_marks_guesses(fastgan, tmp_path) -> None:
    model = build()
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "silent.onnx")
    assert "(guessed)" in fastgan("inspect", tmp_path / "silent.onnx").out


@pytest.fixture
def without_tanh(monkeypatch) -> None:
    """An op that ONNX Runtime has and fastgan does not: whichever that is, it is Tanh here."""
    from fastgan.ops import registry

    registry.load_families()
    monkeypatch.delitem(registry._table, ("", "Tanh"))


def test_inspect_of_a_model_without_a_plan_counts_its_ops(fastgan, rgb, without_tanh) -> None:
    result = fastgan("inspect", rgb)
    assert result.code == 0, result.err
    assert "ort on cpu" in result.out
    assert "op Tanh" in result.out
    assert "2 ConvTranspose" in result.out


# compare -----------------------------------------------------------------------------------------


def test_compare_passes_a_good_model(fastgan, rgb) -> None:
    result = fastgan("compare", rgb, "--n", 4)
    assert (result.code, result.err) == (0, "")
    assert "torch fp32, node by node" in result.out
    assert "not run: triton fp32" in result.out
    lines = [line.split() for line in result.out.splitlines()]
    assert any(line[:3] == ["torch", "cpu", "fp32"] and line[-1] == "ok" for line in lines)
    assert any(line[:3] == ["ort", "cpu", "fp32"] and line[-1] == "ok" for line in lines)


def test_compare_falls_back_to_onnx_runtime_and_says_so(fastgan, rgb, without_tanh) -> None:
    result = fastgan("compare", rgb)
    assert result.code == 0, result.err
    assert "against ONNX Runtime fp32" in result.out
    assert "op Tanh" in result.out


def test_compare_fails_a_backend_that_is_wrong(fastgan, rgb, monkeypatch) -> None:
    real = parity.run_batched
    monkeypatch.setattr(
        parity,
        "run_batched",
        lambda *arguments: real(*arguments) + 1e-4,
    )
    result = fastgan("compare", rgb)
    assert result.code == 1
    assert "OUTSIDE max abs <= 2e-05" in result.out


# bench -------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch) -> None:
    """Turns and ceilings of next to no time."""
    from fastgan.measure import ceilings, timing

    monkeypatch.setattr(timing, "SETTLE", 0.0)
    monkeypatch.setattr(timing, "TURN", 0.001)
    monkeypatch.setattr(ceilings, "_MATRIX", {"cpu": 64})


def test_bench_times_us_and_peers_in_turns(fastgan, quick, rgb, tmp_path) -> None:
    file = tmp_path / "sub" / "bench.json"
    threads = torch.get_num_threads()
    result = fastgan(
        *("bench", rgb, "--n", "1,4", "--seconds", "0.01", "--peers", "onnxruntime,eager"),
        *("--threads", 1, "--json", file),
    )
    assert (result.code, result.err) == (0, "")
    assert torch.get_num_threads() == threads
    record = json.loads(file.read_text())
    found = {(r["n"], r["contender"]): r for r in record["results"]}
    for n in (1, 4):
        for name in ("fastgan", "fastgan fed", "onnxruntime", "eager"):
            entry = found[n, name]
            samples = [seconds for turn in entry["samples"] for seconds in turn]
            assert len(entry["samples"]) >= 3
            assert entry["seconds"]["p50"] == pytest.approx(np.median(samples))
            assert entry["images_per_second"] == pytest.approx(n / np.median(samples))
            assert entry["share_of_roofline"] > 0
        assert found[n, "onnxruntime"]["ratio_to_onnxruntime"]["median"] == 1
    assert record["threads"] == 1
    assert record["machine"]["versions"]["torch"] == torch.__version__
    assert "vs ORT" in result.out
    assert "bound by" in result.out


def test_bench_without_peers_and_with_a_plot(fastgan, quick, rgb, tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib, which plots need")
    file = tmp_path / "bench.svg"
    result = fastgan("bench", rgb, "--n", 2, "--seconds", 0.01, "--peers", "none", "--plot", file)
    assert result.code == 0, result.err
    assert "<svg" in file.read_text()


def test_bench_skips_a_peer_aloud(fastgan, quick, rgb, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    arguments = ("--n", 1, "--seconds", 0.01, "--peers", "compile")
    result = fastgan("bench", rgb, *arguments)
    assert result.code == 0, result.err
    assert "not run: compile: no g++ on the path" in result.out


# doctor ------------------------------------------------------------------------------------------


def test_doctor_reports(fastgan) -> None:
    result = fastgan("doctor")
    assert (result.code, result.err) == (0, "")
    for name in ("fastgan", "python", "cpu", "torch", "onnxruntime", "latents", "compilers"):
        assert any(line.startswith(name) for line in result.out.splitlines())
    assert torch.__version__ in result.out


def test_doctor_as_json(fastgan) -> None:
    report = json.loads(fastgan("doctor", "--json").out)
    assert set(report) == {"facts", "missing"}


def test_doctor_never_fails(fastgan, monkeypatch) -> None:
    """Every look at the machine breaks, and imports do, and still there is a report."""

    def broken(*arguments, **options):
        raise RuntimeError("broken on purpose")

    for name in ("cpu", "gpus", "versions", "command", "installed"):
        monkeypatch.setattr(diagnosis.machine, name, broken)
    real = builtins.__import__

    def no_torch(name, *arguments, **options):
        if name.partition(".")[0] in ("torch", "onnxruntime"):
            raise ImportError(f"no {name}, on purpose")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    result = fastgan("doctor")
    assert result.code == 0
    assert "broken: RuntimeError: broken on purpose" in result.out
    assert doctor_command.EXAMPLES


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ({}, ["onnxruntime, the fallback", "pip install 'fastgan[cpu]'"]),
        (
            {"onnxruntime": "1.0", "onnxruntime-gpu": "1.0"},
            ["pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'fastgan[cpu]'"],
        ),
    ],
    ids=["neither", "both"],
)
def test_doctor_on_both_or_neither_onnxruntime(fastgan, monkeypatch, packages, words) -> None:
    monkeypatch.setattr(diagnosis.machine, "versions", lambda: packages)
    monkeypatch.setattr(diagnosis.machine, "gpus", list)
    if not packages:
        monkeypatch.setattr(diagnosis.machine, "installed", lambda name: name != "onnxruntime")
    out = fastgan("doctor").out
    assert all(word in out for word in words)
