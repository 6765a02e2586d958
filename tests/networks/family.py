"""What a test needs to know of a kind of generator: how to make it, feed it and export it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import fastgan
from fastgan.model.signature import Input, Range
from tests.tolerances import MAX_ABS, PSNR


@dataclass(frozen=True, slots=True)
class Family:
    """A small version of a published generator.

    Attributes:
        make: the module, in eval mode, with weights from a seed of its own.
        inputs: of `forward`, in order; a name stands for an open size.
        range: of the output images, and the scale by which differences are measured.
        size: height and width where the file leaves them open.
        codes: how many values an int64 input that is no label has.
        frozen: the batch size that the exporter can't leave open, or None.
        bf16: the lowest peak signal-to-noise ratio in bf16, in dB.
        fp16: the largest difference in fp16, as a share of half the range; another one only where
            it was measured.
    """

    make: Callable[[], nn.Module]
    inputs: tuple[Input, ...]
    range: Range = (-1.0, 1.0)
    size: tuple[int, int] = (16, 16)
    codes: int = 2
    frozen: int | None = None
    bf16: float = PSNR
    fp16: float = MAX_ABS["fp16"]

    @property
    def scale(self) -> float:
        """Half the output's range: 1 for images in -1..1."""
        return (self.range[1] - self.range[0]) / 2

    def shape(self, port: Input, n: int) -> tuple[int, ...]:
        """The shape of an input for n samples."""
        open_sizes = iter(self.size)
        return (n, *[s if isinstance(s, int) else next(open_sizes) for s in port.shape[1:]])

    def draw(self, n: int, seed: int) -> tuple[Tensor, ...]:
        """A value for each input, from a seed."""
        source = torch.Generator().manual_seed(seed)
        return tuple(self._draw(port, n, source) for port in self.inputs)

    def _draw(self, port: Input, n: int, source: torch.Generator) -> Tensor:
        shape = self.shape(port, n)
        if port.kind == "label" and port.dtype != "int64":
            classes = torch.randint(port.classes or 2, (n,), generator=source)
            return torch.nn.functional.one_hot(classes, port.classes or 2).float()
        if port.dtype == "int64":
            return torch.randint(port.classes or self.codes, shape, generator=source)
        if port.kind == "mask":
            return (torch.rand(shape, generator=source) < 0.3).float()
        if port.kind == "image":
            low, high = port.range or self.range
            return torch.rand(shape, generator=source) * (high - low) + low
        return torch.randn(shape, generator=source)

    def export(self, module: nn.Module, path: Path, exporter: str) -> None:
        """Write the module to a file by one of PyTorch's exporters."""
        if self.frozen is None:
            fastgan.export(
                module,
                path,
                inputs=self.inputs,
                range=self.range,
                exporter=exporter,  # type: ignore[arg-type]
                verify=False,
            )
            return
        torch.onnx.export(
            module,
            self.draw(self.frozen, 0),
            path,
            input_names=[port.name for port in self.inputs],
            output_names=["output"],
            dynamo=exporter == "dynamo",
            verbose=False,
        )
