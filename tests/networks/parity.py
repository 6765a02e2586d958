"""A family's file on a backend, held to eager PyTorch in fp32 on the same weights and inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastgan
from tests.instructions import needs_bfloat16
from tests.networks.families import FAMILIES
from tests.networks.family import Family

EXPORTERS = ("dynamo", "torchscript")
#: (backend, precision) -> the largest difference, as a share of half the output's range.
MAX_ABS = {("ort", "fp32"): 2e-5, ("torch", "fp32"): 2e-5, ("triton", "fp32"): 2e-5}
PATHS = (
    ("ort", "fp32"),
    pytest.param("torch", "fp32", marks=pytest.mark.cpu),
    ("triton", "fp32"),
    pytest.param("torch", "bf16", marks=needs_bfloat16),
    ("triton", "fp16"),
)
BATCHES = (1, 3)


@dataclass(frozen=True, slots=True)
class Exported:
    """A family's module and its file."""

    family: Family
    module: nn.Module
    path: Path


class Exports:
    """Files by family and exporter, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], Exported] = {}

    def get(self, name: str, exporter: str) -> Exported:
        """The family's file by that exporter."""
        key = (name, exporter)
        if key not in self._made:
            family = FAMILIES[name]
            module, path = family.make(), self._folder / f"{name}-{exporter}.onnx"
            family.export(module, path, exporter)
            self._made[key] = Exported(family, module, path)
        return self._made[key]


def check(exported: Exported, backend: str, precision: str) -> None:
    """Fail where a batch of 1 or 3 differs from eager PyTorch by more than it may."""
    family = exported.family
    generator = fastgan.load(
        exported.path, backend=backend, precision=precision, device="cpu", strict=True
    )
    assert (generator.backend, generator.precision) == (backend, precision)
    for n in BATCHES:
        seed = int(torch.randint(2**31, ()))
        inputs = family.draw(n, seed)
        result, inputs = produce(family, generator, inputs, seed)
        with torch.inference_mode():
            expected = exported.module(*inputs)
        where = f"batch {n}, seed {seed}"
        assert result.shape == expected.shape, where
        difference = (result - expected).abs().max().item() / family.scale
        if precision == "bf16":
            assert psnr(result, expected, family) >= family.bf16, where
        else:
            limit = family.fp16 if precision == "fp16" else MAX_ABS[backend, precision]
            assert difference <= limit, where


def psnr(result: Tensor, expected: Tensor, family: Family) -> float:
    """Peak signal-to-noise ratio of the output's range, in dB."""
    error = (result - expected).double().square().mean().item() / family.scale**2
    return 10 * math.log10(4.0 / max(error, 1e-20))


def produce(
    family: Family, generator: fastgan.Generator, inputs: tuple[Tensor, ...], seed: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output by the call that a user would make, and the inputs that it used.

    `generate` for latents and labels, `g(images)` for an image and labels, `run` for the rest.
    """
    n = inputs[0].shape[0]
    ports = {port.kind: i for i, port in enumerate(family.inputs)}
    options = {}
    if "label" in ports:
        label = inputs[ports["label"]]
        options["labels"] = (label if label.dim() == 1 else label.argmax(1)).tolist()
    others = set(ports) - {"label"}
    if others == {"latent"} and len(family.inputs) == len(ports):
        latents = generator.latents(n, seed=seed)
        used = [latents if i == ports["latent"] else value for i, value in enumerate(inputs)]
        return generator.generate(n, seed=seed, **options), tuple(used)
    if others == {"image"}:
        return generator(inputs[ports["image"]], **options), inputs
    names = [port.name for port in family.inputs]
    return generator.run(dict(zip(names, inputs, strict=True)))["output"], inputs
