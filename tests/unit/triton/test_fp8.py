"""precision="fp8" in Triton's interpreter: whole networks, its scales, its guard, its refusals."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.engine import Target, get
from fastgan.engine.triton import scales as triton_scales
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.engine.triton.rehearsal import rehearse
from fastgan.errors import ArgumentError, BackendError
from fastgan.inputs import examples as calibration
from fastgan.measure.tolerances import TOLERANCES
from fastgan.model.signature import Input, Output, Signature
from fastgan.plan import eight_bits
from tests.networks.images.cyclegan import cyclegan
from tests.networks.weights import randomise_batch_norms

pytestmark = [
    pytest.mark.skipif(
        torch.cuda.is_available(), reason="kernels are compiled where there is a GPU: see tests/gpu"
    ),
    pytest.mark.filterwarnings("ignore:invalid value"),  # NumPy's, of the interpreter
]
CPU = torch.device("cpu")
E4M3 = " e4m3"


@pytest.fixture(scope="module")
def latents_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A DCGAN of 16x16 whose layers of 256 and 128 channels are large."""
    channels = (20, 256, 128, 64)
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(itertools.pairwise(channels)):
        layers += [
            nn.ConvTranspose2d(before, after, *((4, 2, 1) if index else (2,)), bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    module = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh()).eval()
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.ConvTranspose2d):
                fan_in = layer.in_channels * (layer.kernel_size[0] // layer.stride[0]) ** 2
                layer.weight.normal_(0.0, fan_in**-0.5)
    randomise_batch_norms(module, torch.Generator().manual_seed(int(torch.randint(2**31, ()))))
    path = tmp_path_factory.mktemp("fp8") / "dcgan.onnx"
    fastgan.export(module, path, latent=(20, 1, 1), verify=False)
    return module, path


@pytest.fixture(scope="module")
def images_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """Residual blocks of 256 channels."""
    module = cyclegan(width=64).eval()
    path = tmp_path_factory.mktemp("fp8") / "cyclegan.onnx"
    fastgan.export(module, path, image=(3, 16, 16), verify=False)
    return module, path


def _load(path: Path, precision: str = "fp8") -> fastgan.Generator:
    return fastgan.load(path, backend="triton", device="cpu", precision=precision)


def _executable(generator: fastgan.Generator, batch: int) -> TritonExecutable:
    found = generator._session.executable(generator._session.model.shapes(batch))
    assert isinstance(found, TritonExecutable)
    return found


def _highs(executable: TritonExecutable) -> dict[str, float | None]:
    bound = [b for b in executable.steps.bindings if isinstance(b, Binding)]
    return {b.step.outputs[0]: b.output_high for b in bound if b.eight_bit}


def _kernels(generator: fastgan.Generator) -> list[str]:
    plan = generator.plan(1)
    assert plan is not None
    return [step.kernel for step in plan.steps if step.op != "Reshape"]


def _psnr(a: Tensor, b: Tensor) -> float:
    error = float((a - b).square().mean())
    return 10 * math.log10(4 / error) if error else math.inf  # on some CPUs they are equal


def test_dcgan(latents_model: tuple[nn.Module, Path]) -> None:
    module, path = latents_model
    generator = _load(path)
    assert _kernels(generator) == [
        "linear", "conv_transpose e4m3", "conv_transpose e4m3", "conv_transpose"
    ]  # fmt: skip
    images = generator.generate(2, seed=5)
    with torch.inference_mode():
        expected = module(generator.latents(2, seed=5))
    psnr = _psnr(images, expected)
    assert (TOLERANCES["fp8"].psnr or math.inf) <= psnr < 60  # less than fp16's: it was in 8 bits
    levels = generator.generate(2, seed=5, format="uint8")
    assert (levels.float() - ((images.permute(0, 2, 3, 1) + 1) * 127.5).round()).abs().max() <= 1


def test_cyclegan(images_model: tuple[nn.Module, Path]) -> None:
    module, path = images_model
    generator = _load(path)
    kernels = _kernels(generator)
    # All with 128 channels and more; a block's first input is the residual stream, in 16 bits.
    assert (kernels.count("conv e4m3"), kernels.count("conv_transpose e4m3")) == (5, 2)
    plan = generator.plan(2)
    assert plan is not None
    chosen = eight_bits.choose(plan)
    assert (len(chosen.layers), len(chosen.buffers), len(chosen.passes)) == (7, 5, 2)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    (name,) = (value.name for value in generator.signature.inputs)
    images = generator.run({name: x})[generator.signature.outputs[0].name]
    with torch.inference_mode():
        assert _psnr(images.float(), module(x)) >= (TOLERANCES["fp8"].psnr or math.inf)


def test_nothing_else_changes(
    latents_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = latents_model
    half, eight = (_load(path, precision) for precision in ("fp16", "fp8"))
    plans = half.plan(1), eight.plan(1)
    assert plans[0] is not None
    assert plans[1] is not None
    for a, b in zip(plans[0].steps, plans[1].steps, strict=True):
        assert (a.op, a.kernel, a.epilogue) == (b.op, b.kernel.removesuffix(E4M3), b.epilogue)
    monkeypatch.setattr(eight_bits, "choose", lambda *_: eight_bits.EightBits())
    assert torch.equal(_load(path).generate(1, seed=3), half.generate(1, seed=3))


def test_the_same_image_for_any_batch_size(latents_model: tuple[nn.Module, Path]) -> None:
    _, path = latents_model
    generator = _load(path)
    together = generator.generate(3, seed=1, batch_size=3)
    alone = generator.generate(1, seed=1, start=2, batch_size=1)
    assert _psnr(together[2:], alone) > 55
    highs = [_highs(_executable(generator, n)) for n in (3, 1)]
    assert highs[0] == highs[1]
    torch.manual_seed(torch.seed())  # what else is drawn is no matter
    again = _load(path)
    again.generate(2, seed=9)
    assert _highs(_executable(again, 2)) == highs[0]


def test_scales_are_powers_of_two_with_room(
    latents_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for most in (1e-6, 0.3, 1.0, 224.0, 224.1, 448.0, 7e4):
        high = triton_scales.high_for(most)
        assert 2 * most <= high <= 4 * most
        assert math.frexp(high / 448)[0] == 0.5
    assert triton_scales.high_for(0.0) == 448
    seen: list[int] = []
    largest = triton_scales.largest

    def counted(*arguments: object) -> dict[str, float]:
        seen.append(1)
        return largest(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(triton_scales, "largest", counted)
    generator = _load(latents_model[1])
    generator.plan(2)
    assert not seen, "looked before anything ran"
    for n in (1, 2):
        generator.generate(n)
    assert len(seen) == 1, "looked again for another batch size"


def test_nan_and_infinity_are_made_again(
    latents_model: tuple[nn.Module, Path], caplog: pytest.LogCaptureFixture
) -> None:
    module, path = latents_model
    generator = _load(path)
    latents = torch.randn(2, 20, 1, 1)
    latents[1] *= 1e5  # more than fp16 has, and than any scale; no NaN in fp32
    (name,) = (value.name for value in generator.signature.inputs)
    with caplog.at_level(logging.WARNING, "fastgan"):
        images = generator.run({name: latents})[generator.signature.outputs[0].name]
    assert "NaN or Inf in fp8" in caplog.text
    exact = _load(path, precision="fp32")
    assert torch.equal(images, exact.run({name: latents})[exact.signature.outputs[0].name])
    with torch.inference_mode():  # the other sample's last bits decide signs: it is tanh of 1e5
        assert (images[:1] - module(latents[:1])).abs().max() <= 2e-5


def test_no_first_run_while_a_graph_is_captured(
    latents_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = _executable(_load(latents_model[1]), 1).steps.scales
    assert scales is not None
    monkeypatch.setattr(type(scales._workspace.gpu), "being_captured", lambda self: True)
    with pytest.raises(BackendError, match="call warm_up before the capture"):
        scales._largest(frozenset(["relu"]))


def test_what_is_larger_than_expected_is_cut_off(latents_model: tuple[nn.Module, Path]) -> None:
    generator = _load(latents_model[1])
    (name,) = (value.name for value in generator.signature.inputs)
    images = generator.run({name: 50 * torch.randn(1, 20, 1, 1)})
    assert images[generator.signature.outputs[0].name].isfinite().all()


def test_a_layer_that_is_not_finite_stays_in_16_bits(
    latents_model: tuple[nn.Module, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    generator = _load(latents_model[1])
    largest = triton_scales.largest

    def one_lost(*arguments: object) -> dict[str, float]:
        found = largest(*arguments)  # type: ignore[arg-type]
        return {name: math.inf if name == min(found) else most for name, most in found.items()}

    monkeypatch.setattr(triton_scales, "largest", one_lost)
    with caplog.at_level(logging.WARNING, "fastgan"):
        images = generator.generate(1, seed=2)
    assert "1 results that are not finite stay in fp16" in caplog.text
    with torch.inference_mode():
        expected = latents_model[0](generator.latents(1, seed=2))
    assert _psnr(images, expected) >= (TOLERANCES["fp8"].psnr or math.inf)


def test_tilings_are_measured_and_the_library_is_no_choice(
    latents_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    generator = _load(latents_model[1])
    executable = _executable(generator, 1)
    times: list[Callable[[], object]] = []

    def measure(run: Callable[[], object]) -> float:
        run()
        times.append(run)
        return 1.0 / len(times)  # whatever is measured later is faster; the library comes first

    assert executable.tune(None, measure=measure) == 4
    steps = [step.kernel for step in executable.plan.steps if step.op != "Reshape"]
    assert steps == _kernels(_load(latents_model[1]))


# The rule ----------------------------------------------------------------------------------------


class Forms(nn.Module):
    """Large layers whose input is read by others as well, is concatenated, or is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 128, 3, 1, 1)
        self.twice = nn.Conv2d(128, 128, 3, 1, 1)
        self.joined = nn.Conv2d(256, 128, 3, 1, 1)
        self.narrow = nn.Conv2d(128, 32, 1)
        self.odd = nn.Conv2d(128, 130, 1)
        self.odd_in = nn.Conv2d(130, 128, 1)
        self.large = nn.Conv2d(128, 128, 1)
        self.grouped = nn.Conv2d(128, 128, 1, groups=2)
        self.last = nn.Conv2d(128, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + self.twice(x)
        x = torch.cat([x, torch.relu(self.narrow(x)).repeat(1, 4, 1, 1)], 1)
        x = torch.relu(self.joined(x))
        x = torch.relu(self.odd_in(torch.relu(self.odd(x))))
        x = torch.relu(self.grouped(torch.relu(self.large(x))))
        return self.last(x)


def test_which_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "forms.onnx"
    fastgan.export(Forms().eval(), path, image=(3, 4, 4), verify=False)
    plan = _load(path).plan(2)
    assert plan is not None
    chosen = eight_bits.choose(plan)
    layers = [plan.weights[plan.steps[i].inputs[1]].shape[:2] for i in sorted(chosen.layers)]
    assert layers == [(130, 128), (128, 128)]  # odd and large
    assert (len(chosen.buffers), len(chosen.passes)) == (2, 0)  # 3x3 to 128: 2,304 FLOPs
    monkeypatch.setattr(eight_bits, "WORTH_A_PASS", 2304)
    assert len(eight_bits.choose(plan).passes) == 2  # twice and joined
    monkeypatch.undo()
    assert not eight_bits.choose(plan, lambda index: False).layers
    assert len(eight_bits.choose(plan, without=frozenset([min(chosen.buffers)])).layers) == 1


def test_an_input_of_many_channels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = nn.Sequential(
        nn.Conv2d(128, 256, 3, 1, 1), nn.ReLU(), nn.Conv2d(256, 3, 1), nn.Tanh()
    ).eval()
    fastgan.export(module, tmp_path / "m.onnx", latent=(128, 4, 4), verify=False)
    generator = _load(tmp_path / "m.onnx")
    assert _kernels(generator) == ["conv e4m3", "conv"]
    images = generator.generate(2)
    assert "not finite" not in caplog.text
    with torch.inference_mode():
        assert 30 <= _psnr(images, module(generator.latents(2))) < 70


# Samples -----------------------------------------------------------------------------------------


def test_samples_are_the_same_and_in_range() -> None:
    ports = (
        Input("z", "latent", ("n", 6), distribution="uniform"),
        Input("c", "label", ("n",), dtype="int64", classes=4),
        Input("x", "image", ("n", 3, "h", "w"), range=(0.0, 255.0)),
        Input("u", "image", ("n", 3, 8, 8), dtype="uint8", range=(0.0, 255.0)),
        Input("m", "mask", ("n", 1, "h", "w"), range=(0.0, 1.0)),
        Input("t", "tensor", ("n", 2)),
    )
    signature = Signature(ports, (Output("y", "image", ("n", 3, 8, 8), range=(-1.0, 1.0)),))
    shapes = {"z": (1, 6), "c": (1,), "x": (1, 3, 20, 7), "u": (1, 3, 8, 8), "m": (1, 1, 20, 7)}
    shapes["t"] = (1, 2)
    runs = []
    for _ in range(2):
        torch.manual_seed(torch.seed())
        runs.append(list(calibration.samples(signature, shapes, CPU)))
    assert len(runs[0]) == calibration.SAMPLES
    for a, b in zip(*runs, strict=True):
        assert all(torch.equal(a[name], b[name]) and a[name].shape == shapes[name] for name in a)
        assert 0 <= a["z"].min() <= a["z"].max() < 1
        assert a["c"].dtype == torch.int64
        assert 0 <= a["c"] < 4
        assert a["x"].min() == 0
        assert a["x"].max() == pytest.approx(255)
        assert a["u"].dtype == torch.uint8
        assert a["u"].max() == 255
        assert set(a["m"].unique().tolist()) <= {0.0, 1.0}
    assert not torch.equal(runs[0][0]["x"], runs[0][2]["x"])


# Refusals ----------------------------------------------------------------------------------------


def test_a_cpu_has_no_fp8(
    latents_model: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = latents_model[1]
    with pytest.raises(BackendError, match=r"fp8 on a CPU; needed an NVIDIA GPU .*; or take"):
        fastgan.load(path, device="cpu", precision="fp8")
    for backend in ("torch", "ort"):
        with pytest.raises(BackendError, match=f"fp8 with backend='{backend}'; needed 'triton'"):
            fastgan.load(path, device="cpu", precision="fp8", backend=backend)
    with pytest.raises(ArgumentError, match="fp8"):
        fastgan.load(path, device="cpu", precision="fp4")
    refusal = get("torch").lacks(Target(CPU, "fp8"))
    assert refusal is not None
    assert "triton" in refusal.needed
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(BackendError, match="fp8 on a CPU"):
        fastgan.load(path, device="cpu", precision="fp8", backend="triton")


def test_an_older_gpu_has_no_fp8(latents_model: tuple[nn.Module, Path]) -> None:
    with rehearse(capability=(8, 6)):
        refusal = get("triton").lacks(Target(torch.device("cuda", 0), "fp8"))
        assert refusal is not None
        assert "compute capability 8.6" in refusal.found
        assert "8.9" in refusal.needed
        with pytest.raises(BackendError, match=r"compute capability 8\.6; needed .*8\.9"):
            fastgan.load(latents_model[1], device="cuda", precision="fp8")
