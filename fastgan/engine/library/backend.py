"""The `torch` backend: native code on a CPU (`engine/native/`), PyTorch's operators elsewhere.

On a CPU a plan is one native call as far as there is code for it. In bf16 a CPU with AMX runs
torch's operators instead: the native code takes tiles where FASTGAN_CPU=amx asks for them alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from fastgan.engine.base import Backend, Executable, Session, Target
from fastgan.engine.faults import faults_of
from fastgan.engine.library import operators as library
from fastgan.engine.library.captured import CapturedExecutable, SharedGraphs
from fastgan.engine.library.executor import BoundStep, PlanExecutable
from fastgan.engine.native import graph
from fastgan.engine.native.packing import Shared
from fastgan.errors import Refusal, UnsupportedError
from fastgan.host import processor
from fastgan.model.file import ModelFile
from fastgan.model.signature import Shapes
from fastgan.ops.random import draws_noise
from fastgan.plan import Plan, make


class TorchSession(Session):
    """See the module."""

    shared: SharedGraphs | Shared | None

    def share(self) -> SharedGraphs | Shared | None:
        """See `Session.share`: a GPU's graphs, a CPU's packed weights."""
        if self.target.device.type == "cuda":
            return SharedGraphs(self.target.device)
        return Shared() if graph.runs_here() else None

    def compile(self, shapes: Shapes, target: Target) -> Executable:
        """Plan the model for these shapes and bind each step to the best there is for it."""
        return compile(self.model.file, target, shapes, self.shared)


class TorchBackend(Backend):
    """Takes every model that can be planned, in a precision that the device has."""

    name = "torch"
    devices = ("cpu", "cuda")
    precisions = ("fp32", "tf32", "fp16", "bf16")
    session = TorchSession

    def lacks(self, target: Target) -> Refusal | None:
        """See `Backend.lacks`."""
        if target.device.type == "cpu" and target.precision in ("fp16", "tf32"):
            found = f"{target.precision} on a CPU"
            return Refusal(self.name, "precision", found, "fp32 or bf16")
        if target.precision not in self.precisions:
            return Refusal(self.name, "precision", target.precision, "the triton backend")
        if target.device.type == "cuda" and not torch.cuda.is_available():
            needed = "a CUDA build of torch and a GPU"
            return Refusal(self.name, "device", "no usable NVIDIA GPU", needed)
        return None


BACKEND = TorchBackend()


def compile(
    model: ModelFile,
    target: Target,
    shapes: Shapes,
    shared: SharedGraphs | Shared | None = None,
) -> Executable:
    """The plan of a model for these shapes, on one native call where that covers it.

    shared: of a GPU the graphs with which it is captured, without which its operators are launched
        one by one; of a CPU the packed weights of the model.

    Raises:
        UnsupportedError: there is no plan, or none that runs in this precision here.
    """
    plan = make(model.model, shapes, model.limits, late=target.device.type == "cpu")
    opset = model.model.opset_imports.get("", 1)

    def bound() -> list[BoundStep]:
        return [bind(plan, index, opset, target) for index in range(len(plan.steps))]

    def by_library() -> Executable:
        return PlanExecutable(plan, bound(), target.device, target.dtype, target.settings)

    if target.device.type != "cpu":
        if not isinstance(shared, SharedGraphs) or draws_noise(model.model):
            return by_library()
        return CapturedExecutable(plan, bound(), target, shared)
    bf16 = target.precision == "bf16"
    if not (bf16 and processor.has_tiles()):
        exact = replace(target, precision="fp32")

        def step_by_library(plan: Plan, index: int) -> BoundStep:
            return bind(plan, index, opset, exact)

        packed = shared if isinstance(shared, Shared) else None
        made = graph.executable(plan, opset, step_by_library, by_library, bf16=bf16, shared=packed)
        if made is not None:
            return made
    if bf16 and not processor.has_bfloat16():
        raise UnsupportedError("precision", processor.WITHOUT_BFLOAT16, processor.BFLOAT16_NEEDS)
    return by_library()


def bind(plan: Plan, index: int, opset: int, target: Target) -> BoundStep:
    """Step `index` of the plan on torch's op."""
    step = plan.steps[index]
    with faults_of(step.origin):
        return library.bind(step, plan.weights, opset, target.device, target.dtype)
