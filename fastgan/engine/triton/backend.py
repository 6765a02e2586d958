"""The `triton` backend: a plan on fused Triton kernels; torch's op where none covers a step.

A run is: inputs in, launches, result out. On a GPU the launches of a batch size are one CUDA graph,
captured when it is first used. With TRITON_INTERPRET=1 in the environment the same code runs on a
CPU, slowly and without graphs: that is for tests.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from fastgan.engine.base import FP8_DEVICE, PRECISIONS, Backend, Session, Target, without_fp8
from fastgan.engine.triton.workspace import Workspace
from fastgan.errors import Refusal
from fastgan.inputs import examples
from fastgan.model.signature import Shapes

if TYPE_CHECKING:
    from fastgan.engine.triton.executable import TritonExecutable


class TritonSession(Session):
    """Its executables share one workspace."""

    takes_draws = True
    shared: Workspace

    def share(self) -> Workspace:
        """See `Session.share`."""
        return Workspace(self.target.device)

    @property
    def fallbacks(self) -> tuple[Refusal, ...]:
        """See `Session.fallbacks`: kernels that do not work on this GPU too."""
        return (*self.passed_over, *self.shared.fallbacks)

    def insist(self) -> None:
        """See `Session.insist`."""
        self.shared.strict = True

    def compile(self, shapes: Shapes, target: Target) -> TritonExecutable:
        """Plan the model for these shapes. Weights and memory are placed by the first run."""
        from fastgan.engine.triton.executable import TritonExecutable  # and Triton with it

        made = TritonExecutable(self.model.file, target, shapes, self.shared)
        one = {k: (*s[:1], *shapes[k][1:]) for k, s in self.model.shapes(1).items()}
        samples = partial(examples.samples, self.signature, one, target.device)
        made.calibrate(one, samples, self.known_plan)
        return made


class TritonBackend(Backend):
    """Takes every model that can be planned, on an NVIDIA GPU."""

    name = "triton"
    devices = ("cuda",)
    precisions = tuple(PRECISIONS)
    session = TritonSession

    def lacks(self, target: Target) -> Refusal | None:
        """See `Backend.lacks`."""
        if target.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            needed = "an NVIDIA GPU (a CUDA device)"
            return Refusal(self.name, "device", str(target.device), needed)
        if target.precision == "fp8" and target.device.type == "cuda":
            found = without_fp8(target.device)
            if found is not None:
                return Refusal(self.name, "precision", found, FP8_DEVICE)
        try:
            import triton  # noqa: F401 - only whether it is there
        except ImportError:
            return Refusal(self.name, "triton", "not installed", "pip install triton")
        from fastgan.engine.triton import gate

        return gate.refusal(target.device)


BACKEND = TritonBackend()
