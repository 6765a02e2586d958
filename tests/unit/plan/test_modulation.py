"""Modulated convolutions, in every usual form, become one shared weight between scales."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch

import fastgan
from tests.networks.modulated_forms import FORMS, Synthesis
from tests.planned import planned

pytestmark = pytest.mark.cpu

#: What may be left of a small synthesis network: products, views, and arithmetic on styles.
PRODUCTS = {"fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose"}
ROWS = {"Mul", "Add", "Sqrt", "Reciprocal", "Div"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("exporter", "n"), [("torchscript", 1), ("torchscript", 3), ("dynamo", 2)])
def test_every_form_is_one_weight(form: str, exporter: str, n: int, tmp_path: Path) -> None:
    torch.manual_seed(int(torch.randint(2**31, ())))
    module, path = Synthesis(form).eval(), tmp_path / "net.onnx"
    z = torch.randn(n, 10)
    torch.onnx.export(
        module, (z,), path, input_names=["z"], dynamo=exporter == "dynamo", verbose=False
    )
    generator = fastgan.load(path, device="cpu", backend="torch")
    z = torch.randn(n, 10)
    with torch.inference_mode():
        expected = module(z)
    result = next(iter(generator.run({"z": z}).values()))
    assert torch.allclose(result, expected, atol=2e-5, rtol=2e-5)

    plan = planned(generator, n)
    for step in plan.steps:
        if step.op in PRODUCTS:
            assert step.inputs[1] in plan.weights
        elif step.op in ROWS:  # the styles alone, and the constant of the first layer
            assert prod(plan.buffers[step.outputs[0]].shape) <= n * 12 * 4 * 4
        else:
            assert step.op in ("Reshape", "Identity", "Resize")
    scaled = [step for step in plan.steps if any(step.inputs[4:])]
    assert len(scaled) == 4

    # The batch that the groups froze is free.
    assert generator.signature.frozen_batch is None
    z = torch.randn(n + 2, 10)
    result = next(iter(generator.run({"z": z}).values()))
    with torch.inference_mode():
        assert torch.allclose(result, module(z), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("form", ["fused", "around"])
def test_large_styles_in_half_precision(form: str, tmp_path: Path) -> None:
    # Sums of squares of 12 * 9 * 60^2, six times what fp16 holds.
    torch.manual_seed(int(torch.randint(2**31, ())))
    module, path = Synthesis(form).eval(), tmp_path / "net.onnx"
    for layer in (0, 2):
        torch.nn.init.constant_(module.styles[layer].bias, 60.0)
    torch.onnx.export(module, (torch.randn(1, 10),), path, input_names=["z"], dynamo=False)
    generator = fastgan.load(path, device="cpu", backend="triton", precision="fp16")
    z = torch.randn(1, 10)
    with torch.inference_mode():
        expected = module(z)
    result = next(iter(generator.run({"z": z}).values()))
    assert (result - expected).abs().max() <= 1e-2 * expected.abs().max()
