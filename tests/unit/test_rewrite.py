"""Fusions: each fires where it may, leaves alone what it must, and never changes the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from tests.networks import randomise_batch_norms


class Net(nn.Module):
    """Layers and a forward written in place."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._run = forward

    def forward(self, z: Tensor) -> Tensor:
        return self._run(self, z)


def images(z: Tensor) -> Tensor:
    return z.reshape(-1, 4, 4, 4)


SHARED = nn.BatchNorm2d(6)

#: name: (forward, layers, the operators of the plan, Reshape left out)
CASES: dict[str, tuple[Callable[[Net, Tensor], Tensor], dict[str, nn.Module], list[str]]] = {
    "norm and activation move into a convolution": (
        lambda m, z: F.leaky_relu(m.norm(m.conv(images(z))), 0.3),
        {"conv": nn.Conv2d(4, 6, 3, padding=1), "norm": nn.BatchNorm2d(6)},
        ["fastgan.Conv"],
    ),
    "grouped transposed convolution with norm": (
        lambda m, z: torch.sigmoid(m.norm(m.up(images(z)))),
        {"up": nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), "norm": nn.BatchNorm2d(6)},
        ["fastgan.ConvTranspose"],
    ),
    "norm behind rows that become images": (
        lambda m, z: torch.relu(m.norm(m.dense(z).reshape(-1, 6, 2, 2))),
        {"dense": nn.Linear(64, 24), "norm": nn.BatchNorm2d(6)},
        ["fastgan.Linear"],
    ),
    "norm of rows": (
        lambda m, z: torch.tanh(m.norm(m.dense(z))),
        {"dense": nn.Linear(64, 6), "norm": nn.BatchNorm1d(6)},
        ["fastgan.Linear"],
    ),
    "a norm behind an activation stays": (
        lambda m, z: m.norm(torch.relu(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 6, 1), "norm": nn.BatchNorm2d(6)},
        ["fastgan.Conv", "BatchNormalization"],
    ),
    "a product used twice keeps its own value": (
        lambda m, z: (lambda y: torch.relu(y) + torch.tanh(y))(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 6, 3)},
        ["fastgan.Conv", "Relu", "Tanh", "Add"],
    ),
    "a constant per channel becomes bias": (
        lambda m, z: torch.relu(m.conv(images(z)) + torch.arange(6.0).reshape(1, 6, 1, 1)),
        {"conv": nn.Conv2d(4, 6, 3, bias=False)},
        ["fastgan.Conv"],
    ),
    "a constant per pixel does not": (
        lambda m, z: m.conv(images(z)) + torch.arange(16.0).reshape(1, 1, 4, 4),
        {"conv": nn.Conv2d(4, 6, 1)},
        ["fastgan.Conv", "Add"],
    ),
    "a second activation stays": (
        lambda m, z: torch.tanh(torch.relu(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 6, 1)},
        ["fastgan.Conv", "Tanh"],
    ),
    "two norms of one product stay apart": (
        lambda m, z: (lambda y: m.first(y) - m.second(y))(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 6, 1), "first": nn.BatchNorm2d(6), "second": nn.BatchNorm2d(6)},
        ["fastgan.Conv", "BatchNormalization", "BatchNormalization", "Sub"],
    ),
    "one layer applied twice": (
        lambda m, z: m.conv(torch.relu(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 4, 3, padding=1)},
        ["fastgan.Conv", "fastgan.Conv"],
    ),
    "strided, dilated, uneven padding": (
        lambda m, z: torch.relu(m.conv(F.pad(images(z), (0, 1, 2, 1)))),
        {"conv": nn.Conv2d(4, 6, (3, 2), (2, 1), dilation=(1, 2))},
        ["Pad", "fastgan.Conv"],
    ),
    "transposed with output padding and few channels": (
        lambda m, z: torch.tanh(m.up(images(z))),
        {"up": nn.ConvTranspose2d(4, 2, 5, 3, 2, output_padding=2)},
        ["fastgan.ConvTranspose"],
    ),
    "one-dimensional": (
        lambda m, z: torch.tanh(m.up(torch.relu(m.conv(z.reshape(-1, 4, 16))))),
        {"conv": nn.Conv1d(4, 6, 3), "up": nn.ConvTranspose1d(6, 2, 4, 2, 1)},
        ["fastgan.Conv", "fastgan.ConvTranspose"],
    ),
    "three-dimensional": (
        lambda m, z: torch.tanh(m.up(z.reshape(-1, 8, 2, 2, 2))),
        {"up": nn.ConvTranspose3d(8, 2, 4, 2, 1)},
        ["fastgan.ConvTranspose"],
    ),
}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", CASES)
def test_fusions(name: str, exporter: str, tmp_path: Path) -> None:
    if "Pad" in CASES[name][2] and not _registered("Pad"):
        pytest.skip("Pad is not in the op registry yet")
    forward, layers, expected = CASES[name]
    module = randomise_batch_norms(Net(forward, **layers), torch.Generator().manual_seed(0))
    path = tmp_path / "net.onnx"
    fastgan.export(
        module, path, latent=64, range=(-1.0, 1.0), exporter=exporter, optimize=False, verify=False
    )
    generator = fastgan.load(path, device="cpu", backend="torch")
    z = torch.randn(3, 64)
    with torch.inference_mode():
        reference = module(z)
    result = next(iter(generator.run({generator.signature.inputs[0].name: z}).values()))
    assert torch.allclose(result, reference, atol=1e-5, rtol=1e-5)
    plan = generator.plan(3)
    assert plan is not None
    ops = [step.op for step in plan.steps if step.op not in ("Reshape", "Identity")]
    assert sorted(ops) == sorted(expected)


def _registered(op: str) -> bool:
    from fastgan import ops

    return ops.find("", op, 18) is not None
