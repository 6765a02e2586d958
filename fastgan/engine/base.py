"""What a backend is, and what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fastgan.errors import Refusal
from fastgan.images.format import ImageFormat
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
