"""Kernels that fail or lie on a rehearsed GPU: right images, said aloud; or one clear error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan import latents
from fastgan.engine.triton.rehearsal import Machine, faults
from fastgan.errors import BackendError
from tests.networks.weights import build
from tests.rehearsed import gpus_for

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: see tests/gpu")

Model = tuple[nn.Module, Path]


class Two(nn.Module):
    """Latent [N, 5, 1, 1] -> images [N, 3, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(5, 4, 2)
        self.last = nn.ConvTranspose2d(4, 3, 2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.relu(self.first(z))))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    module = build(Two, 4).eval()
    path = tmp_path_factory.mktemp("rehearsal") / "two.onnx"
    fastgan.export(module, path, latent=(5, 1, 1), verify=False)
    return module, path


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(latents, "failed", {}, raising=False)
    with gpus_for(tmp_path, monkeypatch, checked=True) as machine:
        yield machine


# In tf32, whose products are kernels' (those of fp32 are not), and exact in the interpreter.
def _load(model: Model, precision: str = "tf32", strict: bool = False) -> fastgan.Generator:
    return fastgan.load(model[1], device="cuda:0", precision=precision, strict=strict)


def _is_right(model: Model, g: fastgan.Generator, seed: int = 1, n: int = 2) -> bool:
    made = g.generate(n, seed=seed).cpu()
    z = latents.sample("normal", n, (5, 1, 1), seed=seed)
    with torch.inference_mode():
        expected = model[0](z)
    return bool((made - expected).abs().max() <= {"tf32": 2e-5, "bf16": 5e-2}[g.precision])


def _launches(gpus: Machine, kernel: str) -> int:
    return gpus.log.count(f"launch {kernel}")


KERNEL = "conv_kernel"


@pytest.mark.parametrize("kind", ["compile", "resources", "launch", "wrong", "bits", "overrun"])
def test_a_kernel_that_fails_or_lies_gives_way(
    model: Model, gpus: Machine, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    gpus.fault(kind, KERNEL)
    g = _load(model)
    with caplog.at_level(logging.WARNING, "fastgan"):
        assert _is_right(model, g)
    assert len([r for r in caplog.records if "going on without" in r.message]) == 1
    (fallback,) = g.fallbacks
    assert "conv" in fallback.where
    assert fallback.found
    caplog.clear()
    # The next process knows it: nothing is compiled, launched or said again.
    gpus.log.clear()
    again = _load(model)
    with caplog.at_level(logging.WARNING, "fastgan"):
        assert _is_right(model, again)
    assert _launches(gpus, KERNEL) == 0
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert again.fallbacks == g.fallbacks
    with pytest.raises(BackendError, match="strict"):
        _load(model, strict=True).generate(2)


def test_what_is_right_is_checked_once_by_three_launches_at_most(
    model: Model, gpus: Machine
) -> None:
    for precision, launches in (("tf32", 2), ("bf16", 3)):
        gpus.log.clear()
        g = _load(model, precision)
        assert _is_right(model, g)
        assert g.fallbacks == ()
        checks = gpus.log[: gpus.log.index("capture")]
        # And once as it is warmed up before the capture.
        assert checks.count(f"launch {KERNEL}") == launches + 1
        assert checks.count("launch linear_kernel") == 2 + 1
        gpus.log.clear()
        assert _is_right(model, _load(model, precision))
        assert _launches(gpus, KERNEL) == 2  # warmed up, and replayed


def test_an_image_that_is_wrong_as_a_whole(
    model: Model, gpus: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are right by themselves, and wrong together: of which no check of one knows."""
    monkeypatch.setattr("fastgan.engine.triton.check.fault_of", lambda _: None)
    gpus.fault("wrong", KERNEL)
    g = _load(model)
    assert _is_right(model, g)
    assert "dB" in g.fallbacks[0].found
    gpus.log.clear()
    assert _is_right(model, _load(model))  # from the verdict on disk
    with pytest.raises(BackendError, match="strict"):
        _load(model, strict=True).generate(2)


def test_it_can_be_turned_off(model: Model, gpus: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTGAN_CHECK", "0")
    assert _is_right(model, _load(model))
    assert _launches(gpus, KERNEL) == 2


def test_a_sticky_error_names_the_step_that_ran(model: Model, gpus: Machine) -> None:
    gpus.fault("illegal", "linear_kernel")
    with pytest.raises(BackendError, match=r"1 Linear|2 Linear") as found:
        _load(model).generate(2)
    assert "illegal memory access" in str(found.value)
    assert "CUDA_LAUNCH_BLOCKING=1" in str(found.value)
    # The next process does without it.
    gpus.sticky = None
    gpus.log.clear()
    gpus.heal()
    g = _load(model)
    assert _is_right(model, g)
    assert _launches(gpus, "linear_kernel") == 0
    assert len(g.fallbacks) == 1


def test_a_sticky_error_is_no_kernels_own(
    model: Model, gpus: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    g = _load(model)
    g.generate(2)
    gpus.fault("illegal", "linear_kernel")
    for _ in range(2):
        with pytest.raises(BackendError, match="failure of the GPU"):
            g.generate(2).cpu()
    assert "going on without" not in caplog.text
    gpus.sticky = None


def test_a_failure_that_is_met_in_waiting(
    model: Model, gpus: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = fastgan.load(model[1], device="cuda:0", precision="bf16")  # waits for the flag of a NaN
    g.generate(1)

    def wait(_: object) -> None:
        raise faults.error("an illegal memory access was encountered")

    monkeypatch.setattr("fastgan.engine.device.Gpu.wait", wait)
    with pytest.raises(BackendError, match="CUDA_LAUNCH_BLOCKING=1"):
        g.generate(1, seed=1)


def test_a_check_that_no_process_comes_back_from(model: Model, gpus: Machine) -> None:
    from fastgan.engine.triton import disk

    g = _load(model)
    g.generate(2)
    cache = disk.open_cache(torch.device("cuda:0"))
    for key in [k for k in cache._data["checked"] if k.startswith("fastgan.")]:  # the steps
        cache.put_verdict(key, "running 999999999")
    g = _load(model)
    assert _is_right(model, g)
    assert all("did not come back" in fallback.found for fallback in g.fallbacks)
    assert len(g.fallbacks) == 2


def test_without_a_compiler_nothing_is_on_kernels(
    model: Model, gpus: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    gpus.fault("compiler")
    with caplog.at_level(logging.WARNING, "fastgan"):
        g = _load(model)
        assert _is_right(model, g)
        assert torch.equal(g.latents(2).cpu(), latents.sample("normal", 2, (5, 1, 1)))
        assert _is_right(model, g, seed=2)
    assert "apt install gcc python3-dev" in caplog.text
    assert len([r for r in caplog.records if "compiler" in r.message.lower()]) <= 2


def test_memory_that_a_kernel_finds_missing_is_no_fault_of_its_own(
    model: Model, gpus: Machine
) -> None:
    gpus.fault("load", KERNEL, times=1)
    g = _load(model)
    assert _is_right(model, g, n=2)  # in halves
    assert g.fallbacks == ()
    assert _launches(gpus, KERNEL)


def test_latents_that_are_not_the_hosts(
    model: Model, gpus: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    gpus.fault("wrong", "_fill")
    g = _load(model)
    with caplog.at_level(logging.WARNING, "fastgan"):
        assert _is_right(model, g)
        assert torch.equal(g.latents(2).cpu(), latents.sample("normal", 2, (5, 1, 1)))
    assert "latents" in caplog.text


def test_a_cuda_sampler_that_the_driver_refuses(
    model: Model, gpus: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def fastgan_cuda_sample(self, *_: object) -> int:
            return 35

        def fastgan_cuda_message(self, _: int) -> bytes:
            return b"CUDA driver version is insufficient for CUDA runtime version"

    monkeypatch.setattr(latents, "_cuda_library", Library)
    made = latents.sample("normal", 2, (5,), device="cuda:0")
    assert torch.equal(made.cpu(), latents.sample("normal", 2, (5,)))
    assert _launches(gpus, "_fill_kernel") == 1


def test_a_capture_that_fails_leaves_nothing_behind(
    model: Model, gpus: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    gpus.fault("capture", times=1)
    g = _load(model)
    with caplog.at_level(logging.WARNING, "fastgan"):
        assert _is_right(model, g)
    assert "no CUDA graph" in caplog.text
    torch.randn(2, device="cuda:0")  # the user's generator is not in a capture
    gpus.fault("capture", times=1)
    g = _load(model, strict=True)
    with pytest.raises(BackendError, match="strict"):
        g.generate(2)


class Library(nn.Module):
    """PReLU, and a chain with a bound, both behind a product in three dimensions: library ops."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose3d(5, 4, 2)
        self.act = nn.PReLU(4)
        self.last = nn.Conv2d(8, 3, 1, groups=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.act(self.first(z)).flatten(1, 2)
        return torch.tanh(self.last(torch.clamp(x, max=1.5) * 2))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Model:
    module = build(Library, 5).eval()
    path = tmp_path_factory.mktemp("rehearsal") / "library.onnx"
    fastgan.export(module, path, latent=(5, 1, 1, 1), verify=False)
    return module, path


def test_library_ops_can_be_captured(
    library: Model, gpus: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTGAN_CHECK", "0")
    gpus.fault("launch", "pointwise")
    gpus.fault("launch", "conv_kernel")
    g = fastgan.load(library[1], device="cuda:0", precision="fp32")
    for seed in (1, 2):
        made = g.generate(2, seed=seed).cpu()
        with torch.inference_mode():
            expected = library[0](latents.sample("normal", 2, (5, 1, 1, 1), seed=seed))
        assert (made - expected).abs().max() <= 2e-5
    assert gpus.log.count("replay") == 2
