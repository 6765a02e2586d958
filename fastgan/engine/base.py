"""What a backend is, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from fastgan.errors import Refusal
from fastgan.model.file import ModelFile
from fastgan.plan import Plan

#: Precisions by the name that `load` takes. "tf32" is fp32 with tensor-core products (NVIDIA),
#: "fp8" is fp16 with the large layers' products in 8 bits (e4m3; NVIDIA).
PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float16,
}


#: What "fp8" runs on.
FP8_DEVICE = "an NVIDIA GPU of compute capability 8.9 or later (Ada, Hopper, Blackwell)"


def without_fp8(device: torch.device) -> str | None:
    """What was found, where a device has no products in 8 bits; else None."""
    if device.type != "cuda":
        return "fp8 on a CPU"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (8, 9):
        return f"fp8 on a GPU of compute capability {major}.{minor}"
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a model is to run.

    Attributes:
        device: a CPU or CUDA device.
        precision: a key of `PRECISIONS`.
    """

    device: torch.device
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of activations."""
        return PRECISIONS[self.precision]

    def __str__(self) -> str:
        return f"{self.device} in {self.precision}"


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """Which output is wanted as images, and how.

    Attributes:
        name: the output's name.
        format: "float32" for NCHW in the model's own range, "uint8" for NHWC in 0..255.
        range: the output values that stand for black and white.
        mean, std: where each channel has constants of its own, as in `signature.Output`.
    """

    name: str
    format: str
    range: tuple[float, float]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def asked(self) -> ImageFormat:
        """What an executable is asked for: floats, where bytes are of constants for each channel.

        No kernel writes those; `images.store` makes them.
        """
        return replace(self, format="float32") if self.mean else self


@dataclass(frozen=True, slots=True)
class Samples:
    """Which samples of the counter-based generator these are (`fastgan.latents.philox`).

    Attributes:
        kind: of the numbers, as `philox` counts them.
        seed, start, stream: of the first sample.
        parameters: of this kind.
    """

    kind: int
    seed: int
    start: int
    stream: int
    parameters: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Draw:
    """Samples that are made where they are needed: rows of an input, not yet drawn.

    Attributes:
        shape: of all rows, as a tensor's.
        fill: `fill(first, out)` writes rows first, first + 1, ... to float32, contiguous `out`.
        first: the index of the first row.
        samples: which ones row 0 and those after it are; None where another generator makes them.
    """

    shape: tuple[int, ...]
    fill: Callable[[int, Tensor], object]
    first: int = 0
    samples: Samples | None = None

    def __getitem__(self, rows: slice) -> Draw:
        """These rows, as of a tensor."""
        begin, end, _ = rows.indices(self.shape[0])
        shape = (end - begin, *self.shape[1:])
        return replace(self, shape=shape, first=self.first + begin)

    def into(self, out: Tensor) -> None:
        """Draw them, into a tensor of this shape."""
        self.fill(self.first, out)

    def tensor(self, device: torch.device) -> Tensor:
        """Draw them, into a new tensor."""
        out = torch.empty(self.shape, dtype=torch.float32, device=device)
        self.into(out)
        return out


class Executable(Protocol):
    """A model ready to run for one set of input shapes."""

    @property
    def plan(self) -> Plan | None:
        """What it runs, where fastgan planned it itself."""

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, on the target's device, in any floating-point type and layout."""

    def images(
        self, inputs: Mapping[str, Any], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """One output as images, and whether it holds a NaN or Inf.

        Args:
            inputs: tensors by name; where the backend says that it `draws`, also `Draw`s.
            image: which output, in which format.
            out: where the images will be put next: it may be written, and is then returned.

        Returns:
            The images: uint8 NHWC if that was asked for and a kernel wrote it, or the model's own
            output is uint8 (`as_asked`); else NCHW in any type and layout. And a boolean on the
            device, or None where the computing precision is the model's own and needs no guard.
        """

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """The name of the first node that makes a NaN or Inf of these inputs, or None."""


def as_asked(made: Tensor, image: ImageFormat) -> Tensor:
    """An output as `Executable.images` returns it: pixels of a model that makes uint8 as NHWC."""
    pixels = image.format == "uint8" and made.dtype == torch.uint8 and made.dim() == 4
    return made.permute(0, 2, 3, 1) if pixels else made


class Backend(Protocol):
    """A row of the table: takes a model or says why not.

    One whose executables take `Draw`s has an attribute `draws` that is true; their `images` are
    then tensors of their own.

    Attributes:
        name: what `load(backend=...)` calls it.
        devices: the types of device that it is made for, "cpu" and "cuda".
    """

    name: str
    devices: tuple[str, ...]

    def accepts(
        self, model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
    ) -> Refusal | None:
        """Why this backend can't run `model` at these input shapes, or None if it can."""

    def compile(
        self, model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
    ) -> Executable:
        """Make it ready for these input shapes."""
