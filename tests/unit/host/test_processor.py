"""A CPU without instructions for bf16: what runs, what is refused; and FASTGAN_CPU, the cap."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import fastgan
from fastgan.cli import app
from fastgan.engine import Target
from fastgan.engine.library import backend as torch_backend
from fastgan.engine.native import graph
from fastgan.errors import ArgumentError, BackendError, BudgetError, UnsupportedError
from fastgan.host import processor
from fastgan.measure import bench, diagnosis, parity
from fastgan.model.file import read
from fastgan.models import path
from fastgan.realtime.stream import budget
from fastgan.recipes.evaluation import Figure, table

pytestmark = pytest.mark.cpu

#: A shipped model.
MODEL = "superres-x2"


@pytest.fixture
def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a desktop's CPU."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(processor, "has_bfloat16", lambda: False)


@pytest.fixture
def without_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there was no compiler."""
    monkeypatch.setattr(graph, "_native", None)


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    result = CliRunner().invoke(app(), [str(a) for a in arguments])
    return result.exit_code, " ".join(result.stdout.split()), result.stderr


LOOK = """
import json, fastgan, torch
from fastgan import _native
from fastgan.host import processor
print(json.dumps([_native.paths(), _native.runtime.path(), _native.runtime.bf16_path(),
    torch.backends.cpu.get_cpu_capability(), processor.has_bfloat16(), processor.has_tiles()]))
"""


@pytest.mark.skipif(graph._native is None, reason="no native part is built")
@pytest.mark.parametrize(
    ("cap", "capability"), [("portable", "DEFAULT"), ("avx2", "AVX2"), ("avx512", "AVX512")]
)
def test_a_cap_reaches_all_that_computes(cap: str, capability: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in processor.LEVELS["avx2"]}
    code = [sys.executable, "-c", LOOK]
    done = subprocess.run(
        code, env={**kept, processor.VARIABLE: cap}, check=True, capture_output=True, text=True
    )
    fills, (path, _), bf16_path, found, bf16, tiles = json.loads(done.stdout)
    levels = list(processor.LEVELS)
    above = levels[levels.index(cap) + 1 :]
    assert not set(above) & {*fills, path}
    assert bf16_path in ("portable_bf16", "avx2_bf16")[: levels.index(cap) + 1]
    assert found in ("DEFAULT", "AVX2", "AVX512")[: levels.index(cap) + 1]
    assert not (bf16 and cap in ("portable", "avx2"))
    assert not tiles


def test_a_cap_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.VARIABLE, "avx9")
    with pytest.raises(ArgumentError, match="'avx9'; needed portable, avx2, avx512"):
        fastgan.load("dcgan-digits", device="cpu")
    found = diagnosis.examine()
    assert any("'avx9'" in line for line in found["missing"])


@pytest.mark.usefixtures("without_bfloat16", "without_native_code")
def test_a_refusal_says_what_is_needed() -> None:
    with pytest.raises(BackendError, match=r"bf16, not on this CPU.*AVX2.*or fp32"):
        fastgan.load(MODEL, precision="bf16", device="cpu")
    code, out, err = run("inspect", MODEL, "--precision", "bf16", "--device", "cpu")
    assert code == 2
    assert "superres-x2.onnx" in out  # what the file holds is shown all the same
    assert err.count("\n") == 1
    assert "not on this CPU" in err


@pytest.mark.usefixtures("without_bfloat16")
@pytest.mark.skipif(not graph.runs_here(), reason="no native code here")
@pytest.mark.parametrize("name", ["dcgan-digits", MODEL])
def test_native_code_needs_no_instructions(name: str) -> None:
    generator = fastgan.load(name, precision="bf16", device="cpu", backend="torch")
    signature = generator.signature
    port = signature.image or signature.latent
    assert port is not None
    x = torch.rand(1, *(s if isinstance(s, int) else 16 for s in port.shape[1:]))
    found = generator.run({port.name: x})
    exact = fastgan.load(name, precision="fp32", device="cpu", backend="torch").run({port.name: x})
    for output, expected in exact.items():
        assert (found[output] - expected).square().mean() <= 4 * 10 ** (-40 / 10)  # 40 dB
        assert not torch.equal(found[output], expected)


@pytest.mark.usefixtures("without_bfloat16")
def test_a_nan_is_found_without_instructions() -> None:
    """Naming its node runs the plan step by step, on torch's own operators."""
    model = read(path("dcgan-digits"))
    name = model.model.graph.inputs[0].name
    shapes = {name: tuple(fastgan.load("dcgan-digits", device="cpu").latents(2).shape)}
    target = Target(torch.device("cpu"), "bf16")
    try:
        made = torch_backend.compile(model, target, shapes)
    except UnsupportedError:
        pytest.skip("no native code here")
    assert made.first_nonfinite({name: torch.zeros(shapes[name])}) is None
    assert made.first_nonfinite({name: torch.full(shapes[name], torch.nan)}) is not None


@pytest.mark.usefixtures("without_bfloat16", "without_native_code")
def test_compare_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "_seconds", lambda run: 0.0)
    code, out, err = run("compare", MODEL, "--n", 1)
    assert code == 0, err
    assert "not run: torch bf16: precision: bf16, not on this CPU" in out


@pytest.mark.usefixtures("without_bfloat16", "without_native_code")
def test_evaluate_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"judge": lambda generator: {"worth": Figure(1.0, "what it is", least=0.5)}}
    monkeypatch.setattr(table, "FIGURES", figures)
    for precision in ("all", "fp32,bf16", "bf16,fp32"):
        options = ("--like", "judge", "--precision", precision, "--device", "cpu")
        code, out, err = run("evaluate", MODEL, *options)
        assert code == 0, err
        assert re.search(r"not on this CPU: [a-z0-9, ]*bf16", out)
        code, out, _ = run("evaluate", MODEL, *options, "--json", "-")
        found = json.loads(out)
        assert list(found["figures"]) == ["fp32"]
        assert "not on this CPU" in found["refused"]["bf16"]
    code, _, err = run("evaluate", MODEL, "--like", "judge", "--precision", "bf16")
    assert (code, err.count("\n")) == (2, 1)
    assert "not on this CPU" in err


@pytest.mark.usefixtures("without_bfloat16")
def test_bench_goes_on() -> None:
    report = bench.run("dcgan-digits", sizes=[1], seconds=0, device="cpu", peers=["onnxruntime"])
    assert {"fastgan", "onnxruntime"} <= {result.name for result in report.results}
    assert "fastgan bf16: not on this CPU, which has no instructions for it" in report.skipped


@pytest.mark.usefixtures("without_bfloat16", "without_native_code")
@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_budgets_name_what_the_machine_has(backend: str) -> None:
    generator = fastgan.load(MODEL, device="cpu", backend=backend)
    with pytest.raises(BudgetError, match="8x8 in fp32") as error:
        budget.check(generator, 1e6, 600_000, 1, "uint8", (32, 32))
    assert "bf16" not in str(error.value)


def test_doctor_says_what_is_here() -> None:
    has = "bf16 through oneDNN" if processor.has_bfloat16() else "no instructions for bf16"
    facts = diagnosis.examine()["facts"]
    assert has in facts["torch"]
    cap = processor.cap()
    assert (cap is None) == ("because of FASTGAN_CPU" not in facts["cpu"])


def test_the_refusal_agrees_with_onednn() -> None:
    """Where `has_bfloat16` is false, oneDNN raises; where it is true, it computes."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    weight = torch.randn(4, 8, dtype=torch.bfloat16)
    run = torch.ops.mkldnn._linear_pointwise.default
    x = torch.ones(2, 8, dtype=torch.bfloat16)
    try:
        run(x, torch.ops.mkldnn._reorder_linear_weight(weight, 2), None, "none", [], "")
    except RuntimeError:
        assert not processor.has_bfloat16()
    else:
        assert processor.has_bfloat16()
