"""Latents that a model's launches draw from counters in device memory, interpreted.

Images are compared bit for bit with those of latents that were drawn before the launches, and
once with eager PyTorch.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.engine.triton.program import Program
from fastgan.engine.triton.work import LaunchError
from fastgan.images.format import ImageFormat
from fastgan.latents.sampling import Sampling
from fastgan.model.signature import Input
from tests.interpreted import INTERPRETED
from tests.networks.weights import build

pytestmark = INTERPRETED


class Noisy(nn.Module):
    """Latent [N, 7, 1, 1] and noise [N, 1, 2, 2] -> images [N, 3, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(7, 5, 2)
        self.last = nn.ConvTranspose2d(5, 3, 2, 2)

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.relu(self.first(z) + 0.5 * noise)))


def _export(path: Path, distribution: Any = "normal") -> nn.Module:
    module = build(Noisy, 1).eval()
    latent = Input("latent", "latent", ("batch", 7, 1, 1), distribution=distribution)
    noise = Input("noise", "noise", ("batch", 1, 2, 2), distribution="normal")
    fastgan.export(module, path, inputs=(latent, noise), verify=False)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    path = tmp_path_factory.mktemp("counters") / "noisy.onnx"
    return _export(path), path


def _load(path: Path, precision: str = "fp32") -> fastgan.Generator:
    return fastgan.load(path, backend="triton", device="cpu", precision=precision)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often counters are set, by the indices that they are set to."""
    from fastgan.kernels import latents

    made, words = [], latents.words

    def spied(seed: int, start: int, *rest: Any) -> tuple[int, ...]:
        made.append(start)
        return words(seed, start, *rest)

    monkeypatch.setattr(latents, "words", spied)
    return made


def _expected(monkeypatch: pytest.MonkeyPatch, path: Path, **arguments: Any) -> Tensor:
    """The images of latents drawn beforehand."""
    with monkeypatch.context() as patch:
        patch.setattr(TritonExecutable, "_may_draw", lambda self: False)
        return _load(path).generate(**arguments)


Model = tuple[nn.Module, Path]


def test_images_are_those_of_the_seed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    module, path = model
    generator = _load(path)
    monkeypatch.setattr("fastgan.inputs.draws.Draw.into", lambda *_: pytest.fail("drawn before"))
    for seed, start, n in ((0, 0, 3), (2**64 - 1, 2**32 - 2, 5), (7, 2**63, 1), (0, 1, 2)):
        images = generator.generate(n, seed=seed, start=start, batch_size=2)
        every = generator._inputs.make(n, Sampling(seed, start))
        with torch.inference_mode():
            expected = module(every["latent"], every["noise"])
        assert (images - expected).abs().max() <= 2e-5


def test_what_follows_is_not_set_again(
    model: Model, settings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model[1]
    generator = _load(path)
    frames = [generator.generate(1, seed=4, start=i) for i in range(10, 14)]
    assert settings == [10, 10]  # the latent's, and the noise's
    settings.clear()
    frames.append(generator.generate(7, seed=4, start=14, batch_size=4))  # 4, 2 and 1: on and on
    assert settings == []
    expected = _expected(monkeypatch, path, n=11, seed=4, start=10, batch_size=1)
    assert torch.allclose(torch.cat(frames), expected, atol=1e-6)
    for seed, start in ((4, 20), (4, 20), (5, 21), (5, 22)):
        settings.clear()
        images = generator.generate(1, seed=seed, start=start)
        assert settings == ([] if (seed, start) == (5, 22) else [start, start])
        same = _expected(monkeypatch, path, n=1, seed=seed, start=start)
        assert torch.equal(images, same)


@pytest.mark.parametrize("distribution", ["uniform", "uniform_symmetric", "hypersphere"])
def test_every_distribution(
    distribution: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    _export(path, distribution)
    wanted = {"n": 6, "seed": 3, "start": 2, "batch_size": 3}
    images = _load(path).generate(**wanted)
    assert torch.equal(images, _expected(monkeypatch, path, **wanted))


def test_truncations_share_their_launches(
    model: Model, settings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model[1]
    generator = _load(path)
    for truncation in (0.3, None, 0.7, 0.7, 50.0):
        images = generator.generate(2, seed=1, truncation=truncation, batch_size=2)
        expected = _expected(monkeypatch, path, n=2, seed=1, truncation=truncation)
        assert torch.equal(images, expected)
    executable = generator._session.executable(generator._session.model.shapes(2))
    assert isinstance(executable, TritonExecutable)
    drawn = [dict(work.drawn).get("latent") for work in executable._built().work.values()]
    assert len(set(drawn)) == len(drawn) == 3  # nothing, normal ones, truncated ones


def test_what_is_not_counted_is_drawn_before(
    model: Model, settings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model[1]
    generator = _load(path)
    for arguments in ({"seed": [3, 9]}, {"rng": "numpy", "noise": False}, {"noise": False}):
        settings.clear()
        images = generator.generate(2, **arguments)
        assert len(settings) == (arguments == {"noise": False})
        expected = _expected(monkeypatch, path, n=2, **arguments)
        assert torch.equal(images, expected)


def test_a_callers_own_graph_gets_latents_by_value(
    model: Model, settings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = _load(model[1])
    expected = generator.generate(2, seed=6)
    settings.clear()
    monkeypatch.setattr(TritonExecutable, "_being_captured", lambda self: True)
    assert torch.equal(generator.generate(2, seed=6), expected)
    assert settings == []


class Graphs:
    """Runs launches once before they are captured, as a GPU does; none runs in the capture."""

    def __init__(self) -> None:
        self.captured = 0

    def capture(self, launch: Callable[[], None]) -> Callable[[], None]:
        launch()
        self.captured += 1
        return launch


def test_a_capture_does_not_lose_samples(
    model: Model, settings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model[1]
    generator, graphs = _load(path), Graphs()
    executable = generator._session.executable(generator._session.model.shapes(2))
    assert isinstance(executable, TritonExecutable)
    executable._workspace.capture = graphs.capture
    generator.warm_up([2])
    assert graphs.captured == 2  # for batches, and for calls of that size
    images = [generator.generate(2, seed=8, start=start) for start in (0, 2)]
    images.append(generator.generate(2, seed=8, start=4, batch_size=2))
    assert graphs.captured == 2
    expected = _expected(monkeypatch, path, n=6, seed=8, batch_size=2)
    assert torch.equal(torch.cat(images), expected)


def test_a_run_that_fails_leaves_nothing_believed(
    model: Model, settings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model[1]
    generator = _load(path)
    generator.generate(1, seed=2)
    go, failures = TritonExecutable._go, [torch.cuda.OutOfMemoryError("CUDA out of memory")]

    def failing(self: TritonExecutable, work: Any, inputs: Any) -> None:
        go(self, work, inputs)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(TritonExecutable, "_go", failing)
    settings.clear()
    images = generator.generate(4, seed=2, start=1, batch_size=4)  # 4 fail, then 2 and 2
    assert settings == [1, 1]  # set again after the failure; the 4 had been right as they were
    monkeypatch.undo()
    expected = _expected(monkeypatch, path, n=4, seed=2, start=1, batch_size=2)
    assert torch.equal(images, expected)


def test_precisions_and_threads_share_the_counters(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model[1]
    generator = _load(path)
    halves = generator.at("bf16")
    assert halves is not None
    runs = list(itertools.product((generator, halves), range(3)))
    expected = {i: one.generate(2, seed=seed) for i, (one, seed) in enumerate(runs)}
    found: dict[int, list[Tensor]] = {i: [] for i in expected}

    def work(i: int) -> None:
        one, seed = runs[i]
        for _ in range(2):
            found[i].append(one.generate(2, seed=seed))

    threads = [threading.Thread(target=work, args=(i,)) for i in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(images, expected[i]) for i in expected for images in found[i])
    assert halves._session.shared is generator._session.shared


def test_a_draw_says_of_what_it_failed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = _load(model[1])
    executable = generator._session.executable(generator._session.model.shapes(1))
    assert isinstance(executable, TritonExecutable)
    program = executable._built()
    assert isinstance(program, Program)
    inputs = generator._inputs.make(1, lazily=True)
    work = program.work_for(
        ImageFormat(executable.plan.outputs[0], "float32", (-1.0, 1.0)), program.drawable(inputs)
    )
    monkeypatch.setattr("fastgan.kernels.latents.fill_next", lambda *_: 1 / 0)
    with pytest.raises(LaunchError, match="step -1"):
        work.launch()
