"""The `triton` backend: a plan on fused Triton kernels; torch's op where none covers a step.

Tensors are channels-last inside, so a kernel and a library op work on the same buffers. With
TRITON_INTERPRET=1 in the environment the same kernels run on a CPU, slowly: that is for tests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fastgan.backends.base import ImageFormat, Target
from fastgan.backends.executor import BoundStep, PlanExecutable
from fastgan.errors import Refusal, UnsupportedError
from fastgan.model_file import ModelFile
from fastgan.plan import Plan, make

name = "triton"
devices = ("cuda",)


def accepts(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> Refusal | None:
    """Takes every model that can be planned, on an NVIDIA GPU."""
    if target.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return Refusal(name, "device", str(target.device), "an NVIDIA GPU (a CUDA device)")
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
    """Plan the model for these shapes and bind each step to a kernel, or to the library op."""
    from fastgan.backends import library, triton_steps

    plan = make(model.model, shapes)
    opset = model.model.opset_imports.get("", 1)
    steps: list[BoundStep] = []
    for step in plan.steps:
        bound = triton_steps.bind(step, plan.weights, plan.buffers, target)
        if isinstance(bound, str):
            noted = replace(step, note=bound)
            bound = library.bind(noted, plan.weights, opset, target.device, target.dtype)
        steps.append(bound)
    return TritonExecutable(replace(plan, steps=tuple(b.step for b in steps)), steps, target)


class TritonExecutable(PlanExecutable):
    """A plan whose last kernel writes the image format that was asked for."""

    def __init__(self, plan: Plan, steps: list[BoundStep], target: Target) -> None:
        super().__init__(plan, steps, target.device, target.dtype)
        self._last = steps[-1]

    def images(
        self, inputs: Mapping[str, Tensor], image: ImageFormat
    ) -> tuple[Tensor, Tensor | None]:
        """See `Executable.images`."""
        from fastgan.backends.triton_steps import FormatCall

        call = self._last.call
        fused = isinstance(call, FormatCall) and self.plan.outputs == self._last.step.outputs
        if not fused or image.name != self.plan.outputs[0]:
            return super().images(inputs, image)
        assert isinstance(call, FormatCall)
        flag = torch.zeros(1, dtype=torch.int32, device=self.device)
        slots = self._run(inputs, stop=len(self._steps) - 1)
        read = self._steps[-1][1]
        tensors = [tensor for index in read if (tensor := slots[index]) is not None]
        result = call.write(*tensors, image=image, flag=flag)
        return result, flag[0] != 0
