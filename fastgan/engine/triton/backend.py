"""The `triton` backend: a plan on fused Triton kernels; torch's op where none covers a step.

A run is: inputs in, launches, result out. On a GPU the launches of a batch size are one CUDA graph,
captured when it is first used. With TRITON_INTERPRET=1 in the environment the same code runs on a
CPU, slowly and without graphs: that is for tests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from fastgan.engine.base import FP8_DEVICE, Target, without_fp8
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.errors import Refusal, UnsupportedError
from fastgan.model.file import ModelFile

name = "triton"
devices = ("cuda",)

#: Its executables take inputs that are not drawn yet (`base.Draw`).
draws = True


def accepts(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> Refusal | None:
    """Takes every model that can be planned, on an NVIDIA GPU."""
    if target.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return Refusal(name, "device", str(target.device), "an NVIDIA GPU (a CUDA device)")
    if target.precision == "fp8" and target.device.type == "cuda":
        found = without_fp8(target.device)
        if found is not None:
            return Refusal(name, "precision", found, FP8_DEVICE)
    try:
        import triton  # noqa: F401 - only whether it is there
    except ImportError:
        return Refusal(name, "triton", "not installed", "pip install triton")
    try:
        compile(model, target, shapes)
    except UnsupportedError as error:
        return Refusal(name, error.where, error.found, error.needed)
    return None


def compile(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> TritonExecutable:
    """Plan the model for these shapes. Weights and memory are placed by the first run."""
    return TritonExecutable(model, target, shapes)
