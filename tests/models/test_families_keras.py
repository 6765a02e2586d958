"""The first seed's Keras generator as an NHWC exporter writes it, on every backend."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

import fastgan
from tests.networks import keras_style
from tests.networks.keras_onnx import keras_nhwc
from tests.networks.parity import BATCHES, PATHS
from tests.tolerances import MAX_ABS, PSNR


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keras") / "keras.onnx"
    onnx.save(keras_nhwc(keras_style(seed=2)), file)
    return file


@pytest.mark.parametrize(("backend", "precision"), PATHS)
def test_nhwc_images(path: Path, backend: str, precision: str) -> None:
    generator = fastgan.load(path, backend=backend, precision=precision, device="cpu")
    module = keras_style(seed=2)
    for n in BATCHES:
        seed = int(torch.randint(2**31, ()))
        latents = torch.randn(n, 100, generator=torch.Generator().manual_seed(seed))
        images = generator.run({"latent": latents})["images"]
        with torch.inference_mode():
            expected = module(latents).permute(0, 2, 3, 1)
        assert images.shape == expected.shape == (n, 64, 64, 3)
        error = (images - expected).abs()
        if precision == "bf16":
            assert 10 * torch.log10(4.0 / error.square().mean()) >= PSNR, f"seed {seed}"
        else:
            assert error.max() <= MAX_ABS[precision], f"seed {seed}"


def test_the_transposes_vanish(path: Path) -> None:
    plan = fastgan.load(path, backend="torch", device="cpu").plan(2)
    assert plan is not None
    products = ["fastgan.Linear", *["fastgan.ConvTranspose"] * 3]
    assert [step.op for step in plan.steps] == products
    activations = [str(step.epilogue) for step in plan.steps[:4]]
    assert activations == ["bias + leaky_relu(0.2)"] * 3 + ["bias + tanh"]
