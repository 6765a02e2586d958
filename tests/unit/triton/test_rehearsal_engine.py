"""Every path of the engine on a rehearsed GPU, which keeps the rules of CUDA."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.engine.triton.rehearsal import Machine, rehearse
from fastgan.kernels import compiling
from tests.networks.weights import build
from tests.rehearsed import gpus_for
from tests.tolerances import MAX_ABS

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: see tests/gpu")


class Small(nn.Module):
    """Latent [N, 7, 1, 1] -> images [N, 3, 4, 4]: a product, a library op, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(7, 6, 2)
        self.middle = nn.Conv2d(6, 6, 1, groups=2)
        self.last = nn.ConvTranspose2d(6, 3, 2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(self.middle(torch.relu(self.first(z)))))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    module = build(Small, 3).eval()
    path = tmp_path_factory.mktemp("rehearsal") / "small.onnx"
    fastgan.export(module, path, latent=(7, 1, 1), verify=False)
    return module, path


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with gpus_for(tmp_path, monkeypatch, 2) as machine:  # checks: see test_rehearsal_faults
        yield machine


def _load(path: Path, device: str = "cuda:0", precision: str = "tf32") -> fastgan.Generator:
    return fastgan.load(path, device=device, precision=precision)


def _check(model: tuple[nn.Module, Path], g: fastgan.Generator, n: int = 2, **how: Any) -> None:
    """Images of a seed against eager PyTorch on the latents that NumPy draws."""
    made = g.generate(n, **how).cpu()
    chosen = {k: v for k, v in how.items() if k in ("seed", "start")}
    z = fastgan.latents.sample("normal", n, (7, 1, 1), **chosen)
    with torch.inference_mode():
        expected = model[0](z)
    tolerance = {**MAX_ABS, "tf32": MAX_ABS["fp32"], "bf16": 6e-2}[g.precision]
    if made.dtype == torch.uint8:
        expected = ((expected + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1)
        tolerance = 1.0
    assert (made.float() - expected).abs().max() <= tolerance


def _kernels_win(_: object, run: Any, captured: bool = True) -> float:
    """A clock by which they are the faster ones."""
    run()
    return 2.0 if "library" in getattr(run, "__qualname__", "") else 1.0


@pytest.mark.parametrize("format", ["float32", "uint8"])
def test_a_batch_is_captured_once_and_replayed(
    model: tuple[nn.Module, Path], gpus: Machine, format: str
) -> None:
    g = _load(model[1])
    for seed in range(3):
        _check(model, g, seed=seed, format=format)
    assert gpus.log.count("capture") == 1
    assert gpus.log.count("replay") == 3
    other = "uint8" if format == "float32" else "float32"
    _check(model, g, seed=5, format=other)
    assert gpus.log.count("capture") == 2
    assert gpus.complaints == []


def test_several_batch_sizes_and_what_is_evicted(
    model: tuple[nn.Module, Path], gpus: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastgan.engine.base._MOST_EXECUTABLES", 2)
    g = _load(model[1])
    for n in (1, 3, 2, 1):
        with torch.cuda.stream(torch.cuda.Stream()):
            _check(model, g, n, seed=n)
        gc.collect()
    _check(model, g, 5, seed=1, batch_size=3)
    assert gpus.complaints == []


def test_the_rest_of_a_batch_takes_no_plan_of_its_own(
    model: tuple[nn.Module, Path], gpus: Machine
) -> None:
    g = _load(model[1])
    _check(model, g, 7, seed=1, batch_size=4)  # 4 and 3
    _check(model, g, 3, seed=2, start=5)
    made = g.generate(3, seed=[4, 4, 9], start=[1, 2, 0]).cpu()
    for image, (seed, start) in zip(made, ((4, 1), (4, 2), (9, 0)), strict=True):
        z = fastgan.latents.sample("normal", 1, (7, 1, 1), seed=seed, start=start)
        with torch.inference_mode():
            assert (image - model[0](z)[0]).abs().max() <= 2e-5
    assert gpus.log.count("capture") == 2  # of 4: drawn there, and given
    _check(model, g, 1, seed=3, start=(1 << 64) - 1)  # the last sample there is
    assert gpus.complaints == []


def test_threads_and_streams(model: tuple[nn.Module, Path], gpus: Machine) -> None:
    g = _load(model[1])
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for n in (1, 2):
                    _check(model, g, n, seed=seed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert gpus.complaints == []


def test_it_can_be_a_part_of_the_callers_graph(
    model: tuple[nn.Module, Path], gpus: Machine
) -> None:
    g = _load(model[1])
    _check(model, g, seed=3)
    expected = g.generate(2, seed=3)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = g.generate(2, seed=3)
    with torch.inference_mode():
        made.fill_(7)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(made.cpu(), expected.cpu())
    _check(model, g, seed=4)


def test_tuning_and_warming_up(model: tuple[nn.Module, Path], gpus: Machine) -> None:
    g = _load(model[1])
    g.warm_up([1], formats=("float32", "uint8"), tune=True)
    captured = gpus.log.count("capture")
    _check(model, g, 1, seed=1)
    _check(model, g, 1, seed=1, format="uint8")
    assert gpus.log.count("capture") == captured
    torch.randn(1, device="cuda")  # no capture was left open
    assert g._session.automatic_batch == 1  # what was measured is known
    assert gpus.complaints == []


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """Five products, each a kernel of its own."""

    def make() -> nn.Module:
        layers = [nn.ConvTranspose2d(7, 4, 2)]
        layers += [nn.Conv2d(4 + i, 5 + i, 1) for i in range(3)]
        return nn.Sequential(*layers, nn.ConvTranspose2d(7, 3, 2, 2), nn.Tanh())

    module = build(make, 3).eval()
    path = tmp_path_factory.mktemp("rehearsal") / "deep.onnx"
    fastgan.export(module, path, latent=(7, 1, 1), verify=False)
    return module, path


@pytest.mark.parametrize(("cores", "tune"), [(8, True), (8, False), (2, True)])
def test_children_compile_what_is_to_be_launched_each_kernel_once(
    deep: tuple[nn.Module, Path],
    gpus: Machine,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    tune: bool,
) -> None:
    monkeypatch.setattr("fastgan.engine.device.Gpu.seconds", _kernels_win)
    monkeypatch.setattr("fastgan.kernels.compiling.cores", lambda: cores)
    monkeypatch.setattr("fastgan.kernels.compiling._CACHED", -1.0)  # compiling takes no time here
    said: list[tuple[int, int]] = []
    with compiling.told(lambda done, total: said.append((done, total))):
        g = _load(deep[1], precision="bf16")
        g.warm_up([2], formats=("float32", "uint8"), tune=tune)
    made = [line for line in gpus.log if line.startswith("compile")]
    assert len(made) == len(gpus.compiled)
    elsewhere = [line for line in made if line.startswith("compile elsewhere")]
    assert bool(elsewhere) == bool(said) == (cores > 2)  # two cores have enough to do
    if cores > 2:
        assert said[-1][0] == said[-1][1]
        assert len(elsewhere) >= 4  # of five products: the first was not in the cache
        assert 1 <= gpus.log.count("a child") <= 2 * cores
    before = len(made)
    _check(deep, g, seed=1)
    again = _load(deep[1], precision="bf16")  # finds all of it in the cache
    again.warm_up([2], formats=("float32", "uint8"), tune=tune)
    assert len([line for line in gpus.log if line.startswith("compile")]) == before
    assert gpus.complaints == []


def test_products_in_fp32_are_the_librarys_until_they_were_measured(
    model: tuple[nn.Module, Path], gpus: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launched() -> set[str]:
        kernels = {"launch linear_kernel", "launch conv_kernel"}
        return kernels & set(gpus.log)

    for precision in ("fp32", "bf16"):
        gpus.log.clear()
        g = _load(model[1], precision=precision)
        _check(model, g)
        assert bool(launched()) == (precision == "bf16")
        assert g.fallbacks == ()
    monkeypatch.setattr("fastgan.engine.device.Gpu.seconds", _kernels_win)
    g = _load(model[1], precision="fp32")
    g.warm_up([2], tune=True, seconds=0)  # no time for it: as it was
    gpus.log.clear()
    _check(model, g)
    assert not launched()
    g.warm_up([2], tune=True)
    for again in (g, _load(model[1], precision="fp32")):
        gpus.log.clear()
        _check(model, again, seed=3)
        assert len(launched()) == 2


def test_the_second_device(model: tuple[nn.Module, Path], gpus: Machine) -> None:
    g = _load(model[1], device="cuda:1")
    assert g.generate(2).device == torch.device("cuda", 1)
    _check(model, g, seed=2)
    z = g.latents(2, seed=1)
    assert torch.equal(z.cpu(), fastgan.latents.sample("normal", 2, (7, 1, 1), seed=1))
    assert g.generate(2, seed=[3, 4]).device == torch.device("cuda", 1)
    frame = g.prepare(2)  # whose calls make no device the current one
    assert torch.equal(frame(seed=5).cpu(), g.generate(2, seed=5, batch_size=2).cpu())
    torch.cuda.synchronize()


def test_tuning_the_second_device_after_the_first(
    model: tuple[nn.Module, Path], gpus: Machine
) -> None:
    _check(model, _load(model[1]), 1, seed=1)  # torch's own stream for captures is made on cuda:0
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        pass
    g = _load(model[1], device="cuda:1")
    g.warm_up([1], tune=True)
    _check(model, g, 1, seed=2)
    assert gpus.complaints == []


def test_what_was_packed_at_load_is_there_on_another_stream(
    model: tuple[nn.Module, Path], gpus: Machine
) -> None:
    with torch.cuda.stream(torch.cuda.Stream()):
        g = _load(model[1])
    with torch.cuda.stream(torch.cuda.Stream()):
        _check(model, g, 1, seed=1)
    assert gpus.complaints == []


def test_a_slice_of_a_gpu_is_another_one() -> None:
    from fastgan.engine.triton import disk

    found = []
    for count in (132, 16):
        with rehearse(multi_processor_count=count):
            found.append(disk.environment(torch.device("cuda:0"))["gpu"])
    assert len(set(found)) == 2


def test_cuda_is_the_device_that_was_current_at_load(
    model: tuple[nn.Module, Path], gpus: Machine
) -> None:
    g = _load(model[1])
    assert g.device == torch.device("cuda", 0)
    torch.cuda.set_device(1)
    assert g.generate(1).device == torch.device("cuda", 0)
    torch.cuda.set_device(0)


def test_memory_that_runs_out_anywhere(
    model: tuple[nn.Module, Path], gpus: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """At each allocation of a first call: right images in smaller batches, or one clear error."""
    g = _load(model[1])
    _check(model, g, 4, seed=1)
    count = sum(line.startswith("allocate") for line in gpus.log)
    del g
    outcomes = set()
    with caplog.at_level(logging.ERROR, "fastgan"):
        for at in range(1, count + 1, 4):
            gpus.fault("memory", at=at, times=1)
            g = _load(model[1])
            try:
                _check(model, g, 4, seed=1)
                outcomes.add("images")
            except torch.cuda.OutOfMemoryError:
                outcomes.add("error")
            gpus.heal()
            _check(model, g, 4, seed=2)  # and afterwards all is well
            del g
            gc.collect()
    assert "images" in outcomes
    assert gpus.complaints == []


class Noisy(nn.Module):
    """Latent [N, 7, 1, 1] -> images [N, 3, 4, 4], with noise of each sample's and of them all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(7, 6, 2)
        self.last = nn.ConvTranspose2d(6, 3, 2, 2)

    def forward(self, z: Tensor) -> Tensor:
        x = torch.relu(self.first(z))
        x = x + 0.5 * torch.randn_like(x[:, :1]) + 0.1 * torch.rand(1, 6, 2, 2)
        return torch.tanh(self.last(x))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rehearsal") / "noisy.onnx"
    how: dict[str, Any] = {"verify": False, "exporter": "torchscript"}
    fastgan.export(build(Noisy, 5).eval(), path, latent=(7, 1, 1), **how)
    return path


def test_noise_of_the_graphs_own_is_captured(noisy: Path, gpus: Machine) -> None:
    here = fastgan.load(noisy, device="cpu", backend="torch")
    there = _load(noisy)
    call = there.prepare(2)

    def near(made: Tensor, **how: Any) -> bool:
        return bool((made.cpu() - here.generate(2, **how)).abs().max() <= 2e-5)

    gpus.log.clear()
    for seed, start in ((3, 0), (3, 2), (2**63 + 1, 2**33), (3, 0)):
        assert near(there.generate(2, seed=seed, start=start), seed=seed, start=start)
        assert near(call(seed=seed, start=start), seed=seed, start=start)
    assert gpus.log.count("replay") == 8
    assert near(there.generate(2, seed=3, noise=False), seed=3, noise=False)
    assert near(there.generate(2, seed=[4, 3]), seed=[4, 3])
    assert gpus.log.count("replay") == 8  # these are drawn on the host
    one = {"seed": 3, "start": 1, "batch_size": 1}
    assert near(there.generate(2, **one), **one)
    assert gpus.complaints == []
