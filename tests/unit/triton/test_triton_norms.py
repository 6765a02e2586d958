"""Norms that share the work with convolutions, in whole plans, in Triton's interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.engine.base import Target
from fastgan.engine.triton import norms as triton_norms
from fastgan.engine.triton.disk import LIBRARY
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.kernels.types import Call, Config
from fastgan.measure.tolerances import TOLERANCES
from fastgan.model.file import ModelFile, read
from tests.interpreted import INTERPRETED
from tests.networks.images.cyclegan import cyclegan

pytestmark = INTERPRETED
CPU = torch.device("cpu")


class Decoder(nn.Module):
    """Group norms as in a VAE's decoder, and a norm whose scale and shift are the latent's."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.ConvTranspose2d(6, 16, 4, 1, 0)
        self.up = nn.ConvTranspose2d(16, 16, 4, 2, 1)
        self.norms = nn.ModuleList([nn.GroupNorm(4, 16) for _ in range(2)])
        self.convs = nn.ModuleList([nn.Conv2d(16, 16, k, 1, k // 2) for k in (3, 1)])
        self.style = nn.Linear(6, 32)
        self.last = nn.Conv2d(16, 3, 1)

    def styled(self, style: Tensor) -> Tensor:
        return style

    def forward(self, z: Tensor) -> Tensor:
        x = self.up(torch.relu(self.head(z)))
        y = self.convs[0](nn.functional.silu(self.norms[0](x)))
        x = x + self.convs[1](nn.functional.silu(self.norms[1](y)))
        gain, shift = self.styled(self.style(z.flatten(1))).chunk(2, 1)
        x = nn.functional.instance_norm(x) * gain[:, :, None, None] + shift[:, :, None, None]
        return torch.tanh(self.last(torch.relu(x)))


class LibraryStyle(Decoder):
    """The style comes from an op that no kernel covers: it has no place of its own in memory."""

    def styled(self, style: Tensor) -> Tensor:
        return style.cumsum(1)


def _exported(
    make: Callable[[], nn.Module], folder: Path, **port: tuple[int, ...]
) -> tuple[ModelFile, nn.Module]:
    module = make().eval()
    fastgan.export(module, folder / "net.onnx", verify=False, **port)
    return read(folder / "net.onnx"), module


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, nn.Module]:
    folder = tmp_path_factory.mktemp("translator")
    return _exported(lambda: cyclegan(4, 1), folder, image=(3, 16, 16))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, nn.Module]:
    return _exported(Decoder, tmp_path_factory.mktemp("decoder"), latent=(6, 1, 1))


@pytest.fixture(scope="module")
def library_style(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, nn.Module]:
    return _exported(LibraryStyle, tmp_path_factory.mktemp("style"), latent=(6, 1, 1))


def _executable(file: ModelFile, shape: tuple[int, ...], precision: str) -> TritonExecutable:
    (port,) = file.model.graph.inputs
    return TritonExecutable(file, Target(CPU, precision), {str(port.name): shape})


def _launches(
    executable: TritonExecutable, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Counter[str]]:
    """A run in poisoned memory, and how often each kernel was launched."""
    counts: Counter[str] = Counter()
    run = Call.run

    def counted(call: Call) -> None:
        counts[call.function.fn.__name__.removesuffix("_kernel")] += 1
        run(call)

    with torch.inference_mode():
        executable._built().layout.memory.fill_(0xFF)  # a NaN where read too early
    with monkeypatch.context() as patch:
        patch.setattr(Call, "run", counted)
        made = executable({executable.plan.inputs[0]: x})[executable.plan.outputs[0]]
    return made.float(), counts


@pytest.mark.parametrize(
    ("name", "norms", "applied", "precision"),
    [("translator", 7, 2, "fp32"), ("translator", 7, 2, "fp16"), ("decoder", 3, 2, "bf16")],
)
def test_convolutions_measure_and_apply(
    name: str,
    norms: int,
    applied: int,
    precision: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, module = request.getfixturevalue(name)
    x = torch.randn((1, 3, 16, 16) if name == "translator" else (1, 6, 1, 1))
    executable = _executable(file, x.shape, precision)
    made, counts = _launches(executable, x, monkeypatch)
    assert (counts["statistics"], counts["merge"]) == (0, norms)
    assert counts["apply"] == norms - applied
    monkeypatch.setattr(triton_norms, "measured_by", lambda *_: {})
    monkeypatch.setattr(triton_norms, "applied_by", lambda *_: {})
    alone, before = _launches(_executable(file, x.shape, precision), x, monkeypatch)
    assert before - counts == Counter(statistics=norms, apply=applied)
    assert not counts - before
    with torch.inference_mode():
        expected = module(x)
    # Whoever does it, it is the same norm of the same values.
    rounding = {"fp32": 1e-5, "fp16": 4e-3, "bf16": 3e-2}[precision]
    assert (made - alone).abs().max() <= rounding
    if precision == "fp32":
        assert (made - expected).abs().max() <= 2e-5


@pytest.mark.parametrize("name", ["decoder", "library_style"])
def test_styles_of_each_sample(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, module = request.getfixturevalue(name)
    executable = _executable(file, (3, 6, 1, 1), "fp32")
    for index, step in enumerate(executable.plan.steps):
        if step.op in ("fastgan.Conv", "fastgan.ConvTranspose"):
            config = executable.steps.bindings[index].default
            pays = step.op == "fastgan.Conv" and executable.steps.bindings[index].normalises(None)
            executable.use(index, config.with_(block_m=16, normalises=pays))
    for _ in range(2):
        x = torch.randn(3, 6, 1, 1)
        made, counts = _launches(executable, x, monkeypatch)
        assert (counts["statistics"], counts["merge"], counts["apply"]) == (0, 3, 1)
        with torch.inference_mode():
            assert (made - module(x)).abs().max() <= 2e-5


def test_whoever_does_not_measure_leaves_it_to_the_norm(
    translator: tuple[ModelFile, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, module = translator
    x = torch.randn(2, 3, 16, 16)
    executable = _executable(file, x.shape, "fp32")
    ops = [step.op for step in executable.plan.steps]
    products = [i for i, op in enumerate(ops) if op in ("fastgan.Conv", "fastgan.ConvTranspose")]
    for index in products:
        executable.use(index, Config(16, 32, 128))
    with torch.inference_mode():
        expected = module(x)
    made, counts = _launches(executable, x, monkeypatch)
    assert counts["statistics"] == 0
    assert (made - expected).abs().max() <= 2e-5
    # On the library, with a split reduction, with tiles of several images.
    executable.use(products[0], LIBRARY)
    executable.use(products[1], Config(16, 32, 32, split_k=2))
    executable.use(products[2], Config(32, 16, 64))
    made, counts = _launches(executable, x, monkeypatch)
    assert counts["statistics"] == 3
    assert (made - expected).abs().max() <= 2e-5
    notes = [s.note for s in executable.plan.steps if s.op == "fastgan.Normalise"]
    assert [bool(note) for note in notes] == [False] * 3 + [True] * 4
    executable.use(products[1], Config(16, 32, 64, split_k=2, normalises=True))
    made, counts = _launches(executable, x, monkeypatch)
    assert (counts["statistics"], counts["apply"]) == (3, 6)
    assert (made - expected).abs().max() <= 2e-5


def _slow_kernels(run: Callable[[], object]) -> float:
    run()
    return 1.0 if "library" in getattr(run, "__qualname__", "") else 2.0


def _counted(run: Callable[[], object]) -> float:
    """Launches, as if each took a second, and the library's twice."""
    launches = 0.0
    launch = Call.run

    def counted(call: Call) -> None:
        nonlocal launches
        launches += 1
        launch(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Call, "run", counted)
        run()
    return launches + (10 if "library" in getattr(run, "__qualname__", "") else 0)


@pytest.mark.parametrize("slow_kernels", [False, True])
def test_tuned_with_and_without(
    slow_kernels: bool,
    decoder: tuple[ModelFile, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    file, module = decoder
    x = torch.randn(1, 6, 1, 1)
    for _ in range(2):
        executable = _executable(file, x.shape, "fp32")
        executable.tune(None, measure=_slow_kernels if slow_kernels else _counted)
        made, counts = _launches(executable, x, monkeypatch)
        # On kernels every launch is worth sparing, so all norms are measured and applied by others.
        assert counts["merge"] == (0 if slow_kernels else 3)
        assert (counts["apply"], counts["statistics"]) == (0, 0)
        with torch.inference_mode():
            assert (made - module(x)).abs().max() <= 2e-5
    (written,) = (tmp_path / "tuning").glob("*.json")
    keys = written.read_text()
    assert "measures" in keys
    assert ("measured" in keys) != slow_kernels
    assert ("applies" in keys) != slow_kernels


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, of the interpreter
def test_an_input_of_eight_bits_was_normalised_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [nn.Conv2d(3, 128, 1), nn.InstanceNorm2d(128), nn.ReLU(), nn.Conv2d(128, 128, 1)]
    layers += [nn.Conv2d(128, 3, 1), nn.Tanh()]
    file, module = _exported(lambda: nn.Sequential(*layers), tmp_path, image=(3, 8, 8))
    x = torch.randn(1, 3, 8, 8)
    for precision, applied in (("fp16", 0), ("fp8", 1)):
        made, counts = _launches(_executable(file, x.shape, precision), x, monkeypatch)
        assert (counts["merge"], counts["apply"]) == (1, applied)
        with torch.inference_mode():
            mse = (made - module(x)).square().mean()
        assert 10 * torch.log10(4 / mse) >= (TOLERANCES[precision].psnr or 0)
