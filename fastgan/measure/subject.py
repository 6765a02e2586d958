"""The model under measurement: inputs for it, and its runs by hand-made inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan import latents, models
from fastgan.apply import legal
from fastgan.engine import Target
from fastgan.engine.batches import automatic_batch, split
from fastgan.generator import Generator
from fastgan.inputs import given, labels
from fastgan.model.file import ModelFile, read
from fastgan.model.side_file import describe
from fastgan.model.signature import Input, Output, Signature, input_shapes

Inputs = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Subject:
    """A checked model and its signature, before any backend has it."""

    model: ModelFile
    signature: Signature

    @property
    def output(self) -> Output:
        """The output that `Generator.generate` returns."""
        outputs = self.signature.outputs
        return next((output for output in outputs if output.kind == "image"), outputs[0])

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        """The shape of each input for n samples; a frozen batch stays."""
        return input_shapes(self.signature, n)

    def inputs(self, n: int, seed: int = 0) -> Inputs:
        """Inputs for n samples, on the CPU: a function of the seed alone.

        Latents and noise from their distributions, labels uniform, images and masks uniform in
        their range, other tensors normal.
        """
        shapes = self.shapes(n)
        return {
            port.name: _draw(port, shapes[port.name], seed, stream)
            for stream, port in enumerate(self.signature.inputs)
        }


def open_subject(source: str, signature: Mapping[str, Any] | None = None) -> Subject:
    """Read the model that `fastgan.load(source, signature=signature)` would load.

    Raises:
        ModelFileError, ArgumentError: as `fastgan.load`.
    """
    shipped = source in models.names() and not Path(source).exists()
    model = read(models.path(source) if shipped else source)
    described = legal.planned(model.model, describe(model, signature))
    return Subject(model, legal.legal(model.model, described))


def batch_of(generator: Generator) -> int | None:
    """The batch size that `generate` takes by itself; None where the model says it, or it is n."""
    if generator.signature.frozen_batch is not None or not generator.signature.made.apart:
        return None
    target = Target(generator.device, generator.precision)
    return automatic_batch(generator.plan(1), target)


def run_batched(
    generator: Generator, inputs: Mapping[str, Tensor], output: str, batch: int | None
) -> Tensor:
    """An output for inputs made beforehand, in batches of `batch_of`."""
    signature = generator.signature
    rows = {port.name for port in signature.inputs if signature.has_rows(port)}
    n = max(inputs[name].shape[0] for name in rows)
    frozen = signature.frozen_batch
    # Put together at the end: a copy between two batches starts the threads of another library.
    parts = [
        generator.run({k: t[first : first + count] if k in rows else t for k, t in inputs.items()})[
            output
        ]
        for first, count in split(n, batch, frozen)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _draw(port: Input, shape: tuple[int, ...], seed: int, stream: int) -> Tensor:
    n, rest = (shape[0], shape[1:]) if shape else (1, ())
    if port.kind == "label":
        return labels.resolve(None, n, port, (), seed, 0, torch.device("cpu"))
    if port.default is not None:
        return torch.full(shape, port.default, dtype=given.element_type(port))
    if port.is_empty:
        return torch.zeros(shape, dtype=given.element_type(port))
    if port.kind in ("latent", "noise"):
        drawn = latents.sample(
            port.distribution or "normal", n, rest or (1,), seed=seed, stream=stream
        )
        return drawn.reshape(shape).to(given.element_type(port))
    drawn = latents.sample("uniform", n, rest or (1,), seed=seed, stream=stream).reshape(shape)
    if port.kind == "mask":
        drawn = (drawn > 0.5).float()
    low, high = port.range or (-1.0, 1.0)
    return (drawn * (high - low) + low).to(given.element_type(port))
