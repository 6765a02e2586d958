"""The engine of the triton backend in Triton's interpreter: whole networks, run after run."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import weakref
from collections.abc import Callable
from copy import copy as copied
from pathlib import Path

import pytest
import torch
from torch import nn

import fastgan
from fastgan.engine.base import Target
from fastgan.engine.batches import Batches
from fastgan.engine.triton import executable as triton_executable
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.engine.triton.program import Program
from fastgan.images.format import ImageFormat
from fastgan.inputs.draws import Draw
from fastgan.kernels.types import Prepared
from fastgan.model.file import ModelFile, read
from tests.interpreted import INTERPRETED

pytestmark = INTERPRETED
CPU = torch.device("cpu")


class Residual(nn.Module):
    """Convolutions of all kinds, an instance norm, a residual, a layer norm, a library last op."""

    def __init__(self, last: str = "hardtanh") -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = nn.InstanceNorm2d(6, affine=True)
        self.block = nn.Conv2d(6, 6, 3, 1, 2, dilation=2)
        self.grouped = nn.Conv2d(6, 6, 3, 1, 1, groups=2)
        self.up = nn.ConvTranspose2d(6, 5, 4, 2, 1)
        self.rows = nn.LayerNorm(8)
        self.last = nn.Conv2d(5, 3, 3, 1, 1)
        self.act: nn.Module = nn.Hardtanh() if last == "hardtanh" else nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.down(x)))
        x = x + self.block(x)
        x = torch.nn.functional.leaky_relu(self.grouped(x), 0.2)
        return self.act(self.last(self.rows(self.up(x))))


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    module = make().eval()
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return module


@pytest.fixture(scope="module", params=["hardtanh", "tanh"])
def images_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, ModelFile]:
    module = _seeded(lambda: Residual(request.param))
    path = tmp_path_factory.mktemp("engine") / "residual.onnx"
    fastgan.export(module, path, image=(3, 8, 8), verify=False)
    return module, read(path)


def _small_dcgan() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(7, 10, 4, 1, 0),
        nn.ReLU(),
        nn.ConvTranspose2d(10, 6, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
        nn.Tanh(),
    )


@pytest.fixture(scope="module")
def latent_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    module = _seeded(_small_dcgan)
    path = tmp_path_factory.mktemp("engine") / "small.onnx"
    fastgan.export(module, path, latent=(7, 1, 1), verify=False)
    return module, path


def _executable(file: ModelFile, batch: int, precision: str = "fp32") -> TritonExecutable:
    (name,) = (value.name for value in file.model.graph.inputs)
    return TritonExecutable(file, Target(CPU, precision), {str(name): (batch, 3, 8, 8)})


@torch.inference_mode()
def _poison(executable: TritonExecutable) -> None:
    """0xFF in every byte is a NaN in every floating-point type."""
    program = executable._built()
    program.layout.memory.fill_(0xFF)
    for work in program.work.values():
        if work.result is not None:
            work.result.fill_(torch.nan if work.result.is_floating_point() else 77)


def _kernels(executable: TritonExecutable) -> list[str]:
    return [s.kernel for s in executable.plan.steps if s.op not in ("Reshape", "Identity")]


@pytest.mark.parametrize("format", ["float32", "uint8"])
def test_images_equal_eager_run_after_run(
    images_model: tuple[nn.Module, ModelFile], format: str
) -> None:
    module, file = images_model
    executable = _executable(file, 2)
    image = ImageFormat(executable.plan.outputs[0], format, (-1.0, 1.0))
    name = executable.plan.inputs[0]
    results = []
    for _ in range(3):
        x = torch.randn(2, 3, 8, 8)
        with torch.inference_mode():
            expected = module(x)
        if results:
            _poison(executable)
        images, nonfinite = executable.images({name: x}, image)
        assert nonfinite is None
        if format == "uint8":
            levels = ((expected + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1)
            assert images.dtype == torch.uint8
            assert (images.float() - levels).abs().max() <= 1
        else:
            assert images.dtype == torch.float32
            assert (images - expected).abs().max() <= 2e-5
        results.append((images, images.clone()))
    for images, copy in results:
        assert torch.equal(images, copy), "a result changed when another one was made"


def test_every_kernel_is_bound(images_model: tuple[nn.Module, ModelFile]) -> None:
    executable = _executable(images_model[1], 1)
    kernels = {step.op: (step.kernel, step.note) for step in executable.plan.steps}
    norms = [step for step in executable.plan.steps if step.op == "fastgan.Normalise"]
    assert [step.kernel for step in norms] == ["normalise"] * 2
    assert {step.attributes["over"] for step in norms} == {"space", "last"}
    assert kernels["fastgan.ConvTranspose"] == ("conv_transpose", "")
    notes = [s.note for s in executable.plan.steps if s.op == "fastgan.Conv"]
    assert notes.count("") == len(notes) - 1
    assert "2 groups" in notes


def test_outputs_by_name_are_copies(images_model: tuple[nn.Module, ModelFile]) -> None:
    module, file = images_model
    executable = _executable(file, 1)
    name, output = executable.plan.inputs[0], executable.plan.outputs[0]
    first, second = (torch.randn(1, 3, 8, 8) for _ in range(2))
    a = executable({name: first})[output]
    before = a.clone()
    b = executable({name: second})[output]
    assert torch.equal(a, before)
    with torch.inference_mode():
        assert (a - module(first)).abs().max() <= 2e-5
        assert (b - module(second)).abs().max() <= 2e-5


def test_buffers_share_memory(latent_model: tuple[nn.Module, Path]) -> None:
    executable = fastgan.load(latent_model[1], backend="triton", device="cpu")._session.executable(
        {"latent": (4, 7, 1, 1)}
    )
    assert isinstance(executable, TritonExecutable)
    executable.warm_up(None)
    together = sum(buffer.bytes for buffer in executable.plan.buffers.values())
    assert 0 < executable.bytes < 0.9 * together


def test_batch_sizes_share_weights_and_memory(latent_model: tuple[nn.Module, Path]) -> None:
    generator = fastgan.load(latent_model[1], backend="triton", device="cpu")
    executables = [generator._session.executable({"latent": (n, 7, 1, 1)}) for n in (4, 2)]
    programs = []
    for executable in executables:
        assert isinstance(executable, TritonExecutable)
        executable.warm_up(None)
        programs.append(executable._built())
    assert programs[0].layout.memory.data_ptr() == programs[1].layout.memory.data_ptr()
    for a, b in zip(programs[0].steps, programs[1].steps, strict=True):
        if hasattr(a, "packed") and hasattr(b, "packed"):
            assert a.packed is b.packed


def test_latents_are_drawn_into_the_buffer(
    latent_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, path = latent_model
    generator = fastgan.load(path, backend="triton", device="cpu")
    monkeypatch.setattr(Draw, "tensor", lambda *_: pytest.fail("drawn elsewhere"))
    images = generator.generate(5, seed=3, start=2, batch_size=2)
    with torch.inference_mode():
        expected = module(generator.latents(5, seed=3, start=2))
    assert (images - expected).abs().max() <= 2e-5


def test_threads_take_turns(latent_model: tuple[nn.Module, Path]) -> None:
    _, path = latent_model
    generator = fastgan.load(path, backend="triton", device="cpu")
    expected = {seed: generator.generate(2, seed=seed) for seed in range(4)}
    found: dict[int, torch.Tensor] = {}

    def work(seed: int) -> None:
        found[seed] = generator.generate(2, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[seed], expected[seed]) for seed in expected)


# Graphs ------------------------------------------------------------------------------------------


class FakeGraphs:
    """Records what a graph would: launches run once to warm up, are captured, then replayed."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails, self.captured, self.replays = fails, 0, 0

    def capture(self, launch: Callable[[], None]) -> Callable[[], None]:
        launch()
        self.captured += 1
        if self.fails is not None:
            raise self.fails
        launch()

        def replay() -> None:
            self.replays += 1
            launch()

        return replay


@pytest.fixture
def graphs(latent_model: tuple[nn.Module, Path]) -> tuple[fastgan.Generator, FakeGraphs]:
    generator = fastgan.load(latent_model[1], backend="triton", device="cpu")
    fake = FakeGraphs()
    executable = generator._session.executable({"latent": (1, 7, 1, 1)})
    assert isinstance(executable, TritonExecutable)
    executable._workspace.capture = fake.capture
    return generator, fake


def test_one_graph_per_batch_size_and_format(
    graphs: tuple[fastgan.Generator, FakeGraphs], latent_model: tuple[nn.Module, Path]
) -> None:
    generator, fake = graphs
    for repeat in range(2):
        images = generator.generate(6, batch_size=4, seed=repeat)  # 4 and 2
        with torch.inference_mode():
            expected = latent_model[0](generator.latents(6, seed=repeat))
        assert (images - expected).abs().max() <= 2e-5
        assert fake.captured == 2
    assert fake.replays == 4
    generator.generate(2, format="uint8")  # by itself, so into memory of its own
    assert fake.captured == 3
    generator.warm_up([2, 4], formats=("float32", "uint8"))
    assert fake.captured == 8
    for format in ("float32", "uint8"):
        generator.generate(6, batch_size=4, format=format)
        generator.generate(4, format=format)
    assert fake.captured == 8


def test_a_failed_capture_goes_on_without(
    graphs: tuple[fastgan.Generator, FakeGraphs],
    latent_model: tuple[nn.Module, Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    generator, fake = graphs
    fake.fails = RuntimeError("operation not permitted when stream is capturing")
    with caplog.at_level(logging.WARNING, "fastgan"):
        for seed in range(3):
            images = generator.generate(2, seed=seed)
            with torch.inference_mode():
                expected = latent_model[0](generator.latents(2, seed=seed))
            assert (images - expected).abs().max() <= 2e-5
    assert fake.captured == 1
    assert len([r for r in caplog.records if "no CUDA graph" in r.message]) == 1


def test_no_memory_while_capturing_halves_the_batch(
    graphs: tuple[fastgan.Generator, FakeGraphs], caplog: pytest.LogCaptureFixture
) -> None:
    generator, fake = graphs
    expected = generator.generate(5, batch_size=1)
    failure = RuntimeError("capture_end failed")
    failure.__context__ = torch.cuda.OutOfMemoryError("CUDA out of memory")
    capture = fake.capture

    def limited(launch: Callable[[], None]) -> Callable[[], None]:
        sizes.append(1)
        if len(sizes) == 1:
            raise failure
        return capture(launch)

    sizes: list[int] = []
    executable = generator._session.executable({"latent": (1, 7, 1, 1)})
    assert isinstance(executable, TritonExecutable)
    executable._workspace.capture = limited
    with caplog.at_level(logging.WARNING, "fastgan"):
        images = generator.generate(5, batch_size=4)
    assert torch.allclose(images, expected, atol=2e-6)
    assert "going on with 2" in caplog.text


# Memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3])
def test_out_of_memory_halves_and_goes_on(
    latent_model: tuple[nn.Module, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    most: int,
) -> None:
    generator = fastgan.load(latent_model[1], backend="triton", device="cpu")
    expected = generator.generate(7, batch_size=1)
    memory = triton_executable.Workspace.memory
    attempts: list[int] = []

    def limited(self: object, size: int) -> torch.Tensor:
        attempts.append(size)
        if size > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return memory(self, size)  # type: ignore[arg-type]

    executable = generator._session.executable({"latent": (most, 7, 1, 1)})
    assert isinstance(executable, TritonExecutable)
    executable.warm_up(None)
    limit = executable.bytes
    monkeypatch.setattr(triton_executable.Workspace, "memory", limited)
    with caplog.at_level(logging.WARNING, "fastgan"):
        images = generator.generate(7, batch_size=7)
        assert torch.allclose(images, expected, atol=2e-6)
        tried = len(attempts)
        assert torch.equal(generator.generate(7, batch_size=7), images)
    assert len(attempts) == tried, "it did not remember"
    assert len([r for r in caplog.records if "not enough memory" in r.message]) == 1


def test_no_room_for_a_single_image(
    latent_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: object, size: int) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(triton_executable.Workspace, "memory", none)
    generator = fastgan.load(latent_model[1], backend="triton", device="cpu")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        generator.generate(3)


@pytest.mark.parametrize(("n", "batch"), [(1, None), (10, 4), (37, 16), (64, 64)])
def test_halved_batches_cover_every_sample_once(n: int, batch: int | None) -> None:
    for refused in range(4):
        batches, done = Batches(n, batch), []
        for attempt, (first, count) in enumerate(batches):
            most = batches.halve(first, count) if attempt == refused else None
            if most is not None:
                assert most < count
            else:
                done.append((first, count))
        covered = list(itertools.chain(*(range(f, f + c) for f, c in done)))
        assert covered == list(range(n))


# A kernel that does not work here ----------------------------------------------------------------


def test_a_failing_kernel_is_not_hidden(
    latent_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU it is a fault of ours; on a GPU see test_rehearsal_faults."""
    generator = fastgan.load(latent_model[1], backend="triton", device="cpu")

    def broken(self: Prepared) -> torch.Tensor:
        raise RuntimeError("out of resource: shared memory")

    monkeypatch.setattr(Prepared, "run", broken)
    with pytest.raises(RuntimeError, match="shared memory"):
        generator.generate(2)


def test_the_workspace_goes_with_the_model(latent_model: tuple[nn.Module, Path]) -> None:
    generator = fastgan.load(latent_model[1], backend="triton", device="cpu")
    generator.generate(1)
    workspace = weakref.ref(generator._session.shared)
    assert copied(generator)._session.shared is workspace()
    del generator
    gc.collect()
    assert workspace() is None


def test_program_first_nonfinite(latent_model: tuple[nn.Module, Path]) -> None:
    executable = fastgan.load(latent_model[1], backend="triton", device="cpu")._session.executable(
        {"latent": (1, 7, 1, 1)}
    )
    assert isinstance(executable, TritonExecutable)
    assert executable.first_nonfinite({"latent": torch.randn(1, 7, 1, 1)}) is None
    name = executable.first_nonfinite({"latent": torch.full((1, 7, 1, 1), torch.inf)})
    assert name is not None
    assert isinstance(executable._built(), Program)
