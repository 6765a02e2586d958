"""Every path to an image, held to eager PyTorch in fp32 on the same weights and latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import fastgan
from tests import networks
from tests.instructions import needs_bfloat16
from tests.tolerances import MAX_ABS, PSNR

PATHS = [
    ("ort", "fp32"),
    pytest.param("torch", "fp32", marks=pytest.mark.cpu),
    pytest.param("torch", "bf16", marks=[pytest.mark.cpu, needs_bfloat16]),
    ("triton", "fp32"),
    ("triton", "fp16"),
    ("triton", "bf16"),
]

NETWORKS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "dcgan-64": lambda: (networks.dcgan(100, 64, 3, seed=0), (100, 1, 1)),
    "dcgan-odd": lambda: (networks.dcgan(17, 5, 1, seed=1), (17, 1, 1)),
    "keras-style": lambda: (networks.keras_style(seed=2), (100,)),
    "wgan-style": lambda: (networks.wgan_style(seed=3), (32,)),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[nn.Module, Path]]:
    folder = tmp_path_factory.mktemp("parity")
    result = {}
    for name, make in NETWORKS.items():
        module, latent = make()
        fastgan.export(module, folder / f"{name}.onnx", latent=latent, verify=False)
        result[name] = (module, folder / f"{name}.onnx")
    return result


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("backend", "precision"), PATHS)
@pytest.mark.parametrize("n", [1, 3])
def test_images_match_eager_pytorch(
    exported: dict[str, tuple[nn.Module, Path]], network: str, backend: str, precision: str, n: int
) -> None:
    module, path = exported[network]
    generator = fastgan.load(path, backend=backend, precision=precision, device="cpu")
    assert (generator.backend, generator.precision) == (backend, precision)
    seed = int(torch.randint(2**31, ()))
    images = generator.generate(n, seed=seed)
    with torch.inference_mode():
        expected = module(generator.latents(n, seed=seed))
    assert images.shape == expected.shape
    assert images.dtype == torch.float32
    difference = (images - expected).abs().max().item()
    if precision != "bf16":
        assert difference <= MAX_ABS[precision], f"seed {seed}"
    else:
        error = (images - expected).double().square().mean()
        ratio = 10 * torch.log10(4.0 / error).item()
        assert ratio >= PSNR, f"seed {seed}: {ratio:.1f} dB"


@pytest.mark.parametrize(("backend", "precision"), PATHS)
def test_uint8_is_the_rounded_float(
    exported: dict[str, tuple[nn.Module, Path]], backend: str, precision: str
) -> None:
    _, path = exported["keras-style"]
    generator = fastgan.load(path, backend=backend, precision=precision, device="cpu")
    floats = generator.generate(3, seed=5)
    expected = ((floats + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    images = generator.generate(3, seed=5, format="uint8")
    assert images.shape == expected.shape == (3, 64, 64, 3)
    # A kernel that stores fp16 images rounds twice on the way to uint8, so one step may differ.
    assert (images.int() - expected.int()).abs().max() <= (0 if precision == "fp32" else 1)


def test_the_plan_fuses_all_of_dcgan(exported: dict[str, tuple[nn.Module, Path]]) -> None:
    plan = fastgan.load(exported["dcgan-64"][1], device="cpu").plan(1)
    assert plan is not None
    ops = [step.op for step in plan.steps]
    assert ops == ["Reshape", "fastgan.Linear", *["fastgan.ConvTranspose"] * 4]
    assert [str(step.epilogue) for step in plan.steps[1:]] == ["bias + relu"] * 4 + ["tanh"]
    # 0.209 GFLOP per image, as counted by hand from the layers.
    assert plan.flops == pytest.approx(0.209e9, rel=0.01)
