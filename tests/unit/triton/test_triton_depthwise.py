"""Depthwise convolutions and FIR filters in plans of the triton backend, interpreted."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.engine.base import Target
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.model.file import read
from tests.interpreted import INTERPRETED
from tests.networks.modulated_forms import channels_as_images, depthwise
from tests.networks.weights import build

pytestmark = INTERPRETED


class Mobile(nn.Module):
    """A mobile network's blocks and filters that no transposed convolution can take in."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, 12, 1)
        self.down = nn.Conv2d(12, 12, 3, 2, 1, groups=12)
        self.norm = nn.BatchNorm2d(12)
        self.reflected = nn.Conv2d(12, 12, 3, 1, 1, groups=12, padding_mode="reflect")
        self.spread = nn.Conv2d(12, 12, (3, 5), 1, (2, 2), (2, 1), groups=12)
        self.enlarge = nn.Conv2d(12, 12, 3, 1, 1, groups=12)
        self.up = nn.ConvTranspose2d(12, 12, 4, 2, 1, groups=12)
        self.last = nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.down(self.widen(x))))
        x = x + self.reflected(x)
        x = F.leaky_relu(self.spread(x), 0.2)
        x = self.enlarge(F.interpolate(x, scale_factor=2.0))
        x = F.relu(self.up(x))
        x = depthwise(x, 2, (2, 1))
        return torch.tanh(self.last(channels_as_images(x, 1, (2, 1))))


def _executable(
    module: nn.Module, folder: Path, name: str, shape: tuple[int, ...]
) -> TritonExecutable:
    path = folder / "model.onnx"
    given = {name: shape[1:]}
    fastgan.export(module, path, range=(-1.0, 1.0), verify=False, **given)  # type: ignore[arg-type]
    return TritonExecutable(read(path), Target(torch.device("cpu"), "fp32"), {name: shape})


def _filters(executable: TritonExecutable) -> list[tuple[str, str]]:
    steps = [s for s in executable.plan.steps if s.attributes.get("group", 1) > 1]
    return [(step.kernel, step.note) for step in steps]


def test_mobile_blocks_and_filters(tmp_path: Path) -> None:
    module = build(Mobile, 1).eval()
    executable = _executable(module, tmp_path, "image", (2, 3, 8, 8))
    filters = _filters(executable)
    assert filters == [("depthwise", "")] * len(filters)
    assert len(filters) >= 7
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = module(x)
    made = executable({"image": x})[executable.plan.outputs[0]]
    assert (made - expected).abs().max() <= 2e-5


class Signal(nn.Module):
    """Depthwise along one axis, and as the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(6, 6, 8, 4, 2, groups=6)
        self.last = nn.Conv1d(6, 6, 5, 1, 2, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(F.leaky_relu(self.up(x), 0.1)))


def test_signals(tmp_path: Path) -> None:
    module = build(Signal, 3).eval()
    executable = _executable(module, tmp_path, "latent", (2, 6, 7))
    assert _filters(executable) == [("depthwise", "")] * 2
    x = torch.randn(2, 6, 7)
    with torch.inference_mode():
        expected = module(x)
    made = executable({"latent": x})[executable.plan.outputs[0]]
    assert (made - expected).abs().max() <= 2e-5
