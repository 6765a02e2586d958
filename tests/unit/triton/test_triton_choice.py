"""What is not bound to a kernel, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.engine.triton import choice
from tests.networks.weights import build

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: see tests/gpu")


class Network(nn.Module):
    """A product, a chain with an operand of its own, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.ConvTranspose2d(5, 4, 2), nn.Conv2d(4, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z)
        return torch.tanh(self.last(x * torch.cos(x)))


def test_an_image_too_large_for_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.onnx"
    module = build(Network, 3).eval()
    fastgan.export(module, path, latent=(5, 1, 1), verify=False, exporter="torchscript")
    kernels = fastgan.load(path, backend="triton", device="cpu").plan(1)
    monkeypatch.setattr(choice, "_FARTHEST", 16)  # of 4 x 2 x 2
    g = fastgan.load(path, backend="triton", device="cpu")
    plan = g.plan(1)
    assert plan is not None
    assert kernels is not None
    products = [step.op for step in kernels.steps if step.kernel not in ("library", "in place")]
    assert {"fastgan.Linear", "fastgan.Conv", "fastgan.Pointwise"} <= set(products)
    for step in plan.steps:
        if step.op not in products:
            continue
        if step.op == "fastgan.Pointwise":
            assert step.kernel == "pointwise"
        else:
            assert step.kernel == "library"
            assert "16 elements" in (step.note or "")
    with torch.inference_mode():
        assert (g.generate(1, seed=2) - module(g.latents(1, seed=2))).abs().max() <= 2e-5
