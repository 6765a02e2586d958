"""Concatenations without a copy, in Triton's interpreter: who lies where, and that it is right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.engine.base import Target
from fastgan.engine.triton.disk import LIBRARY
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.model.file import read
from tests.interpreted import INTERPRETED

pytestmark = INTERPRETED
CPU = torch.device("cpu")


class Dense(nn.Module):
    """Each convolution sees all that came before it; the last is added to the first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 5, 3, 1, 1)
        self.convs = nn.ModuleList([nn.Conv2d(5 + 2 * i, 2, 3, 1, 1) for i in range(3)])
        self.last = nn.Conv2d(11, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.head(x)]
        for conv in self.convs:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return seen[0] + self.last(torch.cat(seen, 1))


class UNet(nn.Module):
    """Two levels, relu behind the concatenations, a norm and a linear layer among the makers."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1)])
        self.norm = nn.InstanceNorm2d(6, affine=True)
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(6, 6, 3, 1, 1), nn.ConvTranspose2d(12, 4, 4, 2, 1)]
        )
        self.last = nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down[0](x)
        second = self.norm(self.down[1](F.leaky_relu(first, 0.2)))
        y = torch.cat([self.up[0](F.leaky_relu(second, 0.2)), second], 1)
        y = torch.cat([self.up[1](F.relu(y)), first], 1)
        return torch.tanh(self.last(F.relu(y)))


class Awkward(nn.Module):
    """The input, a library op's result and one tensor twice; the parts of a part."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 1)
        self.b = nn.Conv2d(8, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        inner = torch.cat([a, x, F.avg_pool2d(x, 3, 1, 1)[:, :1], a], 1)
        features, gate = self.b(inner).chunk(2, 1)
        gated = F.elu(features) * torch.sigmoid(gate)
        return torch.cat([gated, inner, a], 1)


def _executable(make: type[nn.Module], folder: Path) -> tuple[nn.Module, TritonExecutable]:
    module = make().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3)
    path = folder / "net.onnx"
    fastgan.export(module, path, image=(3, 8, 8), range=(-1.0, 1.0), verify=False)
    file = read(path)
    (name,) = (value.name for value in file.model.graph.inputs)
    return module, TritonExecutable(file, Target(CPU, "fp32"), {str(name): (2, 3, 8, 8)})


def _check(module: nn.Module, executable: TritonExecutable) -> None:
    for _ in range(2):
        x = torch.randn(2, 3, 8, 8)
        with torch.inference_mode():
            executable._built().layout.memory.fill_(0xFF)  # a NaN where read too early
            expected = module(x)
        made = executable({executable.plan.inputs[0]: x})[executable.plan.outputs[0]]
        torch.testing.assert_close(made, expected, atol=2e-5, rtol=2e-5)


def _concats(executable: TritonExecutable) -> list[tuple[str, str]]:
    return [(s.kernel, s.note) for s in executable.plan.steps if s.op == "Concat"]


@pytest.mark.parametrize("make", [Dense, UNet])
def test_nothing_is_copied(make: type[nn.Module], tmp_path: Path) -> None:
    module, executable = _executable(make, tmp_path)
    assert set(_concats(executable)) == {("in place", "")}
    _check(module, executable)


def test_what_kernels_did_not_make_is_copied(tmp_path: Path) -> None:
    module, executable = _executable(Awkward, tmp_path)
    # The convolution's result lies in the longer one, so the shorter one copies all of its parts,
    # into that one too.
    assert _concats(executable) == [("pointwise", "copies 4 of 4 parts"), ("in place", "")]
    assert any("elu" in str(s.attributes) for s in executable.plan.steps)
    _check(module, executable)


def test_a_maker_on_the_library_is_copied_from(tmp_path: Path) -> None:
    module, executable = _executable(Dense, tmp_path)
    index = [s.op for s in executable.plan.steps].index("fastgan.Conv")
    executable.use(index, LIBRARY)
    assert any("copies" in note for _, note in _concats(executable))
    _check(module, executable)
