"""Which GPUs are taken, and what each that is not is told to install, on rehearsed ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import fastgan
from fastgan.engine.triton.rehearsal import rehearse
from fastgan.errors import BackendError
from fastgan.host import gpu
from tests.networks.weights import build
from tests.tolerances import MAX_ABS

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: see tests/gpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    module = build(lambda: nn.Sequential(nn.ConvTranspose2d(5, 3, 2), nn.Tanh()), 4).eval()
    path = tmp_path_factory.mktemp("gate") / "one.onnx"
    fastgan.export(module, path, latent=(5, 1, 1), verify=False)
    return module, path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))


def test_turing_runs_on_torchs_operators_and_says_why(model: tuple[nn.Module, Path]) -> None:
    with rehearse(capability=(7, 5)) as gpus:
        g = fastgan.load(model[1], device="cuda", precision="fp32")
        assert g.backend == "torch"
        assert any("8.0 or later" in str(refusal) for refusal in g.fallbacks)
        made = g.generate(2, seed=1).cpu()
        assert not any(line.startswith("launch linear") for line in gpus.log)
        with pytest.raises(BackendError, match=r"compute capability 7\.5"):
            fastgan.load(model[1], device="cuda", precision="bf16")
        with pytest.raises(BackendError, match=r"8\.0 or later"):
            fastgan.load(model[1], device="cuda", precision="fp32", strict=True)
        del g
    with torch.inference_mode():
        expected = model[0](fastgan.latents.sample("normal", 2, (5, 1, 1), seed=1))
    assert (made - expected).abs().max() <= 2e-5


def test_torchs_operators_are_one_graph_there(model: tuple[nn.Module, Path]) -> None:
    with rehearse(capability=(7, 5)) as gpus:
        g = fastgan.load(model[1], device="cuda", precision="fp16")
        gpus.log.clear()
        made = [g.generate(2, seed=seed).cpu() for seed in (1, 2, 1)]
        assert gpus.log.count("capture") == 1
        assert gpus.log.count("replay") == 3
        with torch.cuda.stream(torch.cuda.Stream()):
            made.append(g.generate(1, seed=3, format="uint8").cpu())
        assert gpus.log.count("capture") == 2
        gpus.fault("capture", times=1)
        again = fastgan.load(model[1], device="cuda", precision="fp16")
        made.append(again.generate(2, seed=2).cpu())  # one by one
        assert gpus.complaints == []
        del g, again
    assert torch.equal(made[0], made[2])
    assert torch.equal(made[1], made[4])
    for seed, images in ((1, made[0]), (2, made[1])):
        with torch.inference_mode():
            expected = model[0](fastgan.latents.sample("normal", 2, (5, 1, 1), seed=seed))
        assert (images - expected).abs().max() <= MAX_ABS["fp16"]


def test_blackwell_needs_the_triton_that_knows_its_driver(
    model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with rehearse(capability=(10, 0)):
        assert fastgan.load(model[1], device="cuda", precision="fp32").backend == "triton"
        monkeypatch.setattr("triton.__version__", "3.6.0")
        g = fastgan.load(model[1], device="cuda", precision="fp32")
        assert g.backend == "torch"
        assert any("triton 3.7" in str(refusal) for refusal in g.fallbacks)


@pytest.mark.parametrize(
    ("driver", "build", "found", "needed"),
    [
        ("580.65.06", None, "CPU build", "pytorch.org"),
        ("535.104.05", "13.0", "driver 535.104.05 for torch's CUDA 13.0", "580 or later"),
        ("470.82.01", "12.6", "driver 470.82.01", "525 or later"),
        ("580.65.06", "13.0", "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_torch_does_not_see(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
    build: str | None,
    found: str,
    needed: str,
) -> None:
    file = tmp_path / "version"
    file.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Tue May 27\nGCC\n")
    monkeypatch.setattr(gpu, "_DRIVER", file)
    monkeypatch.setattr(torch.version, "cuda", build)
    assert gpu.driver() == driver
    with pytest.raises(BackendError) as error:
        fastgan.load("dcgan-digits", device="cuda")
    assert found in str(error.value)
    assert needed in str(error.value)


def test_what_a_launcher_is_built_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    assert gpu.without_compiler() == "a C compiler and Python.h"
    (tmp_path / "Python.h").write_text("")
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/gcc")
    assert gpu.without_compiler() is None
