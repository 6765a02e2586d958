"""precision="fp8": which bindings of a plan work in 8 bits, and with which scales.

How large a result becomes is looked at once per model and image size, in fp32, sample by sample, on
torch's own ops. A scale is a power of two, so that the last bits of a sum, which differ between
machines, don't change it. Room for values beyond those seen costs next to nothing, since e4m3 is a
floating-point format: it takes from the smallest values, those below 2**-15 of the largest.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.engine import cuda_settings
from fastgan.engine.library import operators as library
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.workspace import Workspace
from fastgan.errors import BackendError
from fastgan.kernels.e4m3 import LARGEST
from fastgan.model.file import ModelFile
from fastgan.model.signature import Shapes
from fastgan.ops.random import default_noise, using_noise
from fastgan.plan import Plan, eight_bits, make
from fastgan.plan.merge import merge

log = logging.getLogger("fastgan")

Samples = Callable[[], Iterable[Mapping[str, Any]]]

#: A value this many times the largest one seen is stored without being cut off.
HEADROOM = 2.0


class Scales:
    """Of one plan.

    Args:
        plan: it, for any batch size.
        model: what it was made of.
        workspace: keeps what was seen for all batch sizes.

    Attributes:
        samples: the shapes of a sample, the same for every batch size, and what makes some. Until
            that is set the plan's own shapes and normal numbers stand in.
        known_plan: the plan for the shapes of a sample, if there is one by now.
    """

    def __init__(self, plan: Plan, model: ModelFile, workspace: Workspace) -> None:
        self._plan, self._model, self._workspace = plan, model, workspace
        self._without: frozenset[str] = frozenset()
        self.samples: tuple[Shapes, Samples] | None = None
        self.known_plan: Callable[[Shapes], Plan | None] = lambda shapes: None

    def mark(self, bindings: Sequence[Binding | str]) -> frozenset[str]:
        """Choose what is in 8 bits, and return the buffers whose scales are to be filled in."""
        on_kernel = [isinstance(bound, Binding) for bound in bindings]
        chosen = eight_bits.choose(self._plan, on_kernel.__getitem__, self._without)
        for index, bound in enumerate(bindings):
            if isinstance(bound, Binding):
                stored = bound.step.outputs[0] in chosen.buffers
                bound.input_high = math.nan if index in chosen.layers else None
                bound.output_high = math.nan if stored else None
                bound.rounds = index in chosen.passes
        return frozenset(self._plan.steps[index].inputs[0] for index in chosen.layers)

    def fill(self, bindings: Sequence[Binding | str]) -> None:
        """Give everything that is in 8 bits its scale; what has none goes back to 16 bits."""
        names = self.mark(bindings)
        if not names:
            return
        seen = self._largest(names)
        unknown = frozenset(name for name in names if not math.isfinite(seen.get(name, math.nan)))
        if unknown:
            log.warning(
                "%s: %d results that are not finite stay in fp16", self._model.name, len(unknown)
            )
            self._without |= unknown
            self.mark(bindings)
        for bound in bindings:
            if isinstance(bound, Binding):
                if bound.input_high is not None:
                    bound.input_high = high_for(seen[bound.step.inputs[0]])
                if bound.output_high is not None:
                    bound.output_high = high_for(seen[bound.step.outputs[0]])

    def _largest(self, names: frozenset[str]) -> dict[str, float]:
        shapes, samples = self.samples or _stand_ins(self._plan)
        key = ("largest", tuple(sorted(shapes.items())), names, self.samples is None)

        def look() -> dict[str, float]:
            device = self._workspace.device
            if self._workspace.gpu.being_captured():
                raise BackendError(
                    self._model.name,
                    "a first run in fp8 while a CUDA graph is captured",
                    "scales, for which it has to wait for the GPU",
                    "call warm_up before the capture",
                )
            plan = self.known_plan(shapes)
            if plan is None:
                plan = merge(make(self._model.model, shapes, self._model.limits))
            opset = self._model.model.opset_imports.get("", 1)
            with cuda_settings.library("fp32"):
                return largest(plan, opset, device, samples(), names)

        found: dict[str, float] = self._workspace.packed(key, (), look)
        return found


def _stand_ins(plan: Plan) -> tuple[Shapes, Samples]:
    shapes = {name: tuple(plan.buffers[name].shape) for name in plan.inputs}

    def sample() -> list[dict[str, Tensor]]:
        made, generator = {}, torch.Generator().manual_seed(0)
        for name, shape in shapes.items():
            numbers = torch.randn(shape, generator=generator)
            dtype = plan.buffers[name].dtype
            made[name] = numbers if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)
        return [made]

    return shapes, sample


def largest(
    plan: Plan,
    opset: int,
    device: torch.device,
    samples: Iterable[Mapping[str, Tensor]],
    names: frozenset[str],
) -> dict[str, float]:
    """The largest absolute value of each of these buffers; NaN or Inf where one was not finite.

    Args:
        plan: for the shapes of the samples.
        samples: inputs by name, as many times as wanted.
    """
    steps = [library.bind(step, plan.weights, opset, device, torch.float32) for step in plan.steps]
    found: dict[str, Tensor] = {}

    def note(made: Mapping[str, Tensor]) -> None:
        for name in names.intersection(made):
            most = made[name].abs().amax()
            found[name] = torch.maximum(found.get(name, most), most)

    with torch.inference_mode(), using_noise(default_noise):
        for sample in samples:
            held = {name: sample[name].to(device) for name in plan.inputs}
            note(held)
            for bound in steps:
                result = bound.call(*[held[name] for name in bound.reads])
                results = result if isinstance(result, tuple) else (result,)
                made = dict(zip(bound.step.outputs, results, strict=False))
                note(made)
                held.update(made)
                for name in bound.step.releases:
                    held.pop(name, None)
    return {name: float(most) for name, most in found.items()}


def high_for(most: float) -> float:
    """The value to store as 448 where `most` was the largest one seen.

    448 times a power of two, from HEADROOM to 2 * HEADROOM times `most`.
    """
    if most == 0:
        return LARGEST
    _, exponent = math.frexp(most * HEADROOM / LARGEST)
    return float(LARGEST * 2.0**exponent)
