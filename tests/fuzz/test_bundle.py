"""Mutants of bundles: each is an error, or runs; a few hundred here, more by hand (bundle.c)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.bundle.write import write
from fastgan.loading import open_model
from tests.bundle import capi
from tests.networks import families

ROOT = Path(__file__).resolve().parents[2]

#: Mutants of each; the numbers begin where a fresh run begins.
COUNT = 150


@pytest.mark.parametrize(
    "name", ["biggan", "sagan", "stylegan2-noise", "cyclegan", "recurrent", "windows"]
)
def test_mutants_are_errors_or_run(name: str, tmp_path: Path) -> None:
    library = capi.library_path()
    if library is None:
        pytest.skip("libfastgan.so.1 was not built: python setup.py build_ext --inplace")
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: neither gcc nor clang is on PATH")
    program, bundle = tmp_path / "fuzz", make(name, tmp_path)
    command = [compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{ROOT / 'csrc/include'}", str(Path(__file__).with_name("bundle.c"))]
    command += [str(library), f"-Wl,-rpath,{library.parent}", "-o", str(program)]
    subprocess.run(command, check=True)
    run = [program, bundle, "0", str(COUNT)]
    result = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, (result.stdout, result.stderr)
    found = dict(line.split(": ") for line in result.stdout.splitlines())
    assert sum(map(int, found.values())) == COUNT
    assert int(found["status 3"]) > COUNT // 5, "most mutants are damaged"
    assert int(found["status 0"]) > 0, "and some are as good as before"


def make(name: str, folder: Path) -> Path:
    """The bundle of a small family, or of what none has."""
    file, bundle = folder / "model.onnx", folder / "model.fgb"
    if name in OTHERS:
        fastgan.export(OTHERS[name](), file, latent=(8, 4), exporter="torchscript")
        _reset_first(file)
    else:
        family = {**families.FROM_LATENTS, **families.FROM_IMAGES}[name]
        family.export(family.make(), file, "torchscript")
    write(open_model(file), bundle, (1, 2), [family.size] if name in families.FROM_IMAGES else [])
    return bundle


def _reset_first(file: Path) -> None:
    """GRUs as Keras writes them: PyTorch has no reset before the product."""
    model = onnx.load(file)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "linear_before_reset":
                attribute.i = 0
    onnx.save(model, file)


class Recurrent(nn.Module):
    """A line of an image for each step of time."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(4, 6, batch_first=True, bidirectional=True)
        self.last = nn.GRU(12, 8, batch_first=True)
        self.bounded = nn.RNN(8, 8, nonlinearity="relu", batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.bounded(self.last(self.both(z)[0])[0])[0]).unsqueeze(1)


class Windows(nn.Module):
    """Attention within two windows, each with a mask; a bias and a scale for each of two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Linear(4, 12)
        self.scale = nn.Parameter(torch.rand(2, 1, 1))
        self.bias = nn.Parameter(torch.randn(2, 4, 4))
        mask = torch.zeros(1, 2, 1, 4, 4)
        mask[:, 1, :, :2, 2:] = -100.0
        self.register_buffer("mask", mask)

    def forward(self, z: Tensor) -> Tensor:
        q, k, v = self.maps(z).view(-1, 4, 3, 2, 2).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * self.scale + self.bias).view(-1, 2, 2, 4, 4) + self.mask
        y = scores.view(-1, 2, 4, 4).softmax(-1) @ v
        return torch.tanh(y.transpose(1, 2).reshape(-1, 1, 8, 4))


#: What no family has.
OTHERS: dict[str, type[nn.Module]] = {"recurrent": Recurrent, "windows": Windows}
