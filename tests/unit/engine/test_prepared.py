"""Runs that are made ready once: the images of `generate`, and nothing but a launch in a call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastgan
from benchmarks import host
from fastgan.engine.triton.rehearsal import Machine
from fastgan.errors import ArgumentError, BackendError
from tests.networks.weights import build
from tests.rehearsed import gpus_for
from tests.work import lines, operators

MODELS = Path(fastgan.__file__).parent / "models"

rehearsed = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: see tests/gpu")


class Small(nn.Module):
    """Latent [N, 5, 1, 1] -> images [N, 3, 4, 4]."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(5, 4, 2)
        self.last = nn.ConvTranspose2d(4, 3, 2, 2)
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.relu(self.first(z) * self.scale)) / self.scale)


def _export(path: Path, scale: float = 1.0) -> Path:
    module = build(Small, 4)
    module.scale = scale
    fastgan.export(module.eval(), path, latent=(5, 1, 1), verify=False)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _export(tmp_path_factory.mktemp("prepared") / "small.onnx")


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that overflows in fp16, and not in fp32."""
    return _export(tmp_path_factory.mktemp("prepared") / "hot.onnx", 1e6)


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with gpus_for(tmp_path, monkeypatch) as machine:
        yield machine


def _same(g: fastgan.Generator, made: Tensor, n: int, seed: int, start: int, **how: Any) -> bool:
    """Whether these are the images that `generate` makes batch by batch."""
    expected = g.generate(n, seed=seed, start=start, batch_size=n, **how)
    return torch.equal(made.cpu(), expected.cpu())


def _walk(g: fastgan.Generator, n: int, **how: Any) -> None:
    """A call after the other, each held to `generate`."""
    call = g.prepare(n, **how)
    for given, (seed, start) in (
        ({}, (0, 0)),
        ({}, (0, n)),
        ({"start": 9}, (0, 9)),
        ({"seed": 7}, (7, 0)),
        ({}, (7, n)),
        ({"seed": 2**64 - 1, "start": 2**64 - n}, (2**64 - 1, 2**64 - n)),
    ):
        call.images.fill_(77)
        made = call(**given)
        assert made is call.images
        assert _same(g, made, n, seed, start, **how), given
    with pytest.raises(ArgumentError, match="start"):
        call()  # there is no sample 2**64


@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("dcgan-digits", {"precision": "fp32"}),  # a chain, in one native call
        ("dcgan-digits", {"precision": "bf16"}),
        ("texture-gravel", {"backend": "torch"}),  # a graph
        ("vae-digits", {"backend": "ort"}),
    ],
)
@pytest.mark.parametrize("format", ["float32", "uint8"])
def test_on_a_cpu(model: str, how: dict[str, str], format: str) -> None:
    _walk(fastgan.load(MODELS / f"{model}.onnx", device="cpu", **how), 2, format=format)


def test_what_is_the_seeds_and_what_is_not() -> None:
    g = fastgan.load(MODELS / "cgan-digits.onnx", device="cpu")
    _walk(g, 3)  # labels of the seed's
    _walk(g, 2, labels=[4, 5])
    _walk(g, 2, truncation=0.5, labels=1)
    numpy = g.prepare(1, rng="numpy", labels=3)
    assert _same(g, numpy(seed=3, start=2), 1, 3, 2, rng="numpy", labels=3)


def test_where_images_go() -> None:
    g = fastgan.load(MODELS / "vae-digits.onnx", device="cpu")
    shape = g.generate(2).shape
    wide = torch.zeros((2, shape[1], shape[2], 2 * shape[3]))
    out = wide[..., ::2]  # of strides that no kernel writes
    call = g.prepare(2, out=out)
    assert call(seed=5) is out
    assert _same(g, out, 2, 5, 0)
    assert not wide[..., 1::2].any()
    with pytest.raises(ArgumentError, match="shape"):
        g.prepare(3, out=out)
    with pytest.raises(ArgumentError, match="float64"):
        g.prepare(2, out=out.double())
    with pytest.raises(ArgumentError, match="share memory"):
        g.prepare(2, out=torch.zeros(1).expand(shape))
    for wrong in ({"seed": -1}, {"start": 1 << 64}, {"seed": 0.5}):
        with pytest.raises(ArgumentError):
            call(**wrong)  # type: ignore[arg-type]
    assert _same(g, call(), 2, 5, 2)  # it stands where it stood


@rehearsed
@pytest.mark.parametrize("format", ["float32", "uint8"])
def test_a_call_is_one_replay(small: Path, gpus: Machine, format: str) -> None:
    g = fastgan.load(small, device="cuda:0", precision="fp16")
    call = g.prepare(2, format=format)
    assert call.images.device == torch.device("cuda:0")
    call(seed=3)
    gpus.log.clear()
    made = call()
    nodes = ["_fill_next_kernel", "linear_kernel", "conv_kernel"]  # no copy, no cast, no zeros
    assert gpus.log == ["replay", *[f"launch {name}" for name in nodes], "record"]
    assert _same(g, made, 2, 3, 2, format=format)
    with torch.cuda.stream(torch.cuda.Stream()):  # behind what the other stream did
        assert _same(g, call(start=5), 2, 3, 5, format=format)
    g._session.executable({"latent": (2, 5, 1, 1)}).use(0, "no kernel any more")
    assert (call(start=2).float() - g.generate(2, seed=3, start=2, format=format)).abs().max() < 2
    assert gpus.complaints == []


def test_what_a_call_costs_the_host(tmp_path: Path) -> None:
    """On the GPU's engine with a launch that does nothing: what is left is Python's part."""
    g = host.generator(tmp_path / "host.onnx")
    frame = g.prepare(1, format="uint8")
    out = frame().clone()

    def generate(start: int) -> Tensor:
        return g.generate(1, seed=7, start=start, format="uint8", out=out)

    generate(0)
    frame()
    counter = ["aten.copy_.default"]  # eight words to where the graph reads them
    assert operators(frame) == []
    assert operators(lambda: frame(seed=7)) == counter
    assert operators(lambda: frame(seed=7, start=1)) == []  # it stands there
    assert operators(lambda: generate(5)) == counter
    assert operators(lambda: generate(6)) == []
    assert lines(frame) <= 90
    assert lines(lambda: frame(seed=9)) <= 90
    assert lines(lambda: generate(3)) <= 130


@rehearsed
@pytest.mark.parametrize("mode", [True, False])
def test_generate_copies_into_whatever_it_is_given(small: Path, gpus: Machine, mode: bool) -> None:
    g = fastgan.load(small, device="cuda:0", precision="fp16")
    expected = g.generate(1, seed=3, start=4, batch_size=1).cpu()
    with torch.inference_mode(mode):
        made = g.generate(1, seed=3, start=4)
        assert torch.equal(made.cpu(), expected)
        plain, gradients = torch.zeros_like(made), torch.zeros_like(made).requires_grad_(not mode)
    with torch.inference_mode():
        inferred = torch.zeros_like(made)
    for out in (plain, gradients, inferred):
        assert g.generate(1, seed=3, start=4, out=out) is out
        assert torch.equal(out.detach().cpu(), expected)
    assert gpus.complaints == []


@rehearsed
def test_nan_is_seen_when_the_work_is_done(
    hot: Path, gpus: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    exact = fastgan.load(hot, device="cuda:0", precision="fp32").generate(1, seed=4, start=6)
    g = fastgan.load(hot, device="cuda:0", precision="fp16")
    call = g.prepare(1)
    assert not call.mend()  # what made it ready, nobody asked for
    with caplog.at_level(logging.WARNING, "fastgan"):
        made = call(seed=4, start=6)
        gpus.log.clear()
        assert not call.mend()  # nobody has waited for it
        assert gpus.log == []
        torch.cuda.synchronize()
        assert call.mend()
        assert "made again in fp32" in caplog.text
        assert torch.equal(made.cpu(), exact.cpu())
        assert not call.mend()
        caplog.clear()
        assert torch.equal(g.generate(1, seed=4, start=6).cpu(), exact.cpu())
        assert "made again in fp32" in caplog.text
        caplog.clear()
        with g.stream(frames=2, format="float32", policy="every") as stream:
            frames = [frame.images.cpu().clone() for frame in stream]
        assert all(bool(frame.isfinite().all()) for frame in frames)
        assert "made again in fp32" in caplog.text


@rehearsed
def test_not_in_a_graph_of_the_callers(small: Path, gpus: Machine) -> None:
    g = fastgan.load(small, device="cuda:0", precision="tf32")
    call = g.prepare(1)

    def capture() -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), pytest.raises(BackendError, match="generate"):
            call()

    with pytest.raises(RuntimeError, match="capture"):  # which has failed
        capture()
    assert _same(g, call(seed=1), 1, 1, 0)


@rehearsed
def test_for_lack_of_memory_it_is_let_go(small: Path, gpus: Machine) -> None:
    g = fastgan.load(small, device="cuda:0", precision="tf32")
    call = g.prepare(1)
    call(seed=1)
    gpus.fault("memory", at=2, times=1)
    g.generate(8, seed=2, batch_size=8)  # in halves
    gpus.heal()
    assert call._run._place.work is None  # type: ignore[attr-defined]
    assert _same(g, call(seed=1), 1, 1, 0)
    assert gpus.complaints == []
