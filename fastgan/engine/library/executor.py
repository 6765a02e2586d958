"""Runs a plan: each step bound to a callable once, then called in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fastgan.engine.base import Executable
from fastgan.engine.faults import FAULTS, fault, faults_of
from fastgan.engine.launches import Launches
from fastgan.images.format import ImageFormat, as_asked
from fastgan.plan import Plan, Step

#: A bound step: its tensors that depend on data go in by position, its outputs come out.
Call = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class BoundStep:
    """A step ready to run: `call(*buffers)`, where `reads` names the buffers."""

    step: Step
    call: Call
    reads: tuple[str, ...]


def place(tensor: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """A tensor on its device; a floating-point one in the computing precision, unless None."""
    convert = dtype is not None and tensor.is_floating_point()
    return tensor.to(device, dtype if convert else tensor.dtype)


def nonfinite(tensor: Tensor) -> Tensor | None:
    """Whether it holds a NaN or Inf; None of whole numbers."""
    return tensor.isfinite().all().logical_not() if tensor.is_floating_point() else None


class PlanExecutable(Executable):
    """A plan bound to a device and a precision.

    Args:
        plan: what to run.
        steps: its steps, bound in order.
        device: where the inputs go.
        dtype: the floating-point type computed in; None leaves every tensor in its own.
        settings: those of torch's that steps run with.
        guarded: whether images are looked at for a NaN or Inf; None where `dtype` asks for it.
    """

    plan: Plan

    def __init__(
        self,
        plan: Plan,
        steps: Sequence[BoundStep],
        device: torch.device,
        dtype: torch.dtype | None,
        settings: Callable[[], AbstractContextManager[None]] = nullcontext,
        *,
        guarded: bool | None = None,
    ) -> None:
        self._settings = settings
        self._guarded = dtype != torch.float32 if guarded is None else guarded
        self.plan, self.device, self.dtype = plan, device, dtype
        # Buffers are numbered once, so that a run indexes a list instead of hashing names.
        slots = {name: index for index, name in enumerate(plan.buffers)}
        self._size = len(slots)
        self._inputs = [(name, slots[name]) for name in plan.inputs]
        self._outputs = [(name, slots[name]) for name in plan.outputs]
        self._steps = [
            (
                bound.call,
                [slots[name] for name in bound.reads],
                [slots[name] for name in bound.step.outputs],
                [slots[name] for name in bound.step.releases],
            )
            for bound in steps
        ]
        self._launches = Launches(plan, device)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the plan: tensors of the planned shapes in, outputs by name out.

        Outputs are in the computing precision, and their memory layout is the plan's choice.
        """
        with self._settings():
            slots = self._run(inputs)
        return {name: slots[index] for name, index in self._outputs}  # type: ignore[misc]

    def images(
        self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Executable.images`."""
        result = self(inputs)[image.name]
        return as_asked(result, image), nonfinite(result) if self._guarded else None

    def _run(self, inputs: Mapping[str, Tensor]) -> list[Tensor | None]:
        """The buffers after all steps."""
        slots, steps = self._load(inputs), self._steps
        if self._launches:
            steps = [
                (partial(self._launches.call, number, call), reads, writes, releases)
                for number, (call, reads, writes, releases) in enumerate(steps)
            ]
        for number, (call, reads, writes, releases) in enumerate(steps):
            try:
                result = call(*[slots[index] for index in reads])
            except FAULTS as error:
                raise fault(self.plan.steps[number].origin, error) from error
            if isinstance(result, tuple):
                for index, tensor in zip(writes, result, strict=False):
                    slots[index] = tensor
            else:
                slots[writes[0]] = result
            for index in releases:
                slots[index] = None
        return slots

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """The origin of the first step that makes a NaN or Inf of these inputs, or None."""
        slots = self._load(inputs)
        for (call, reads, writes, _), step in zip(self._steps, self.plan.steps, strict=True):
            with self._settings(), faults_of(step.origin):
                result = call(*[slots[index] for index in reads])
            results = result if isinstance(result, tuple) else (result,)
            for index, tensor in zip(writes, results, strict=False):
                slots[index] = tensor
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    return " + ".join(step.origin)
        return None

    def _load(self, inputs: Mapping[str, Tensor]) -> list[Tensor | None]:
        slots: list[Tensor | None] = [None] * self._size
        for name, index in self._inputs:
            slots[index] = place(inputs[name], self.device, self.dtype)
        return slots
