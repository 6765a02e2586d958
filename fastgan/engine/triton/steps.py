"""A plan's steps on the triton backend: the kernel of each and its tiling, or why it has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fastgan.engine.base import Target
from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import BoundStep
from fastgan.engine.triton import choice, concat, disk, norms
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.scales import Scales
from fastgan.engine.triton.trials import Sharing, sharing
from fastgan.engine.triton.workspace import Workspace
from fastgan.kernels.types import Config
from fastgan.model.file import ModelFile
from fastgan.plan import Plan

#: The note of a step that has a kernel, and is on the library all the same.
MEASURED = "the library op measured faster"
UNMEASURED = "fp32: the library op, until the kernel was measured (fastgan warmup)"


class Steps:
    """What runs each step of a plan: nothing until `choose`, which packs weights, in a turn.

    Args:
        plan: of the steps.
        model: what it was made of.
        target: what for.
        workspace: that of all executables of the model.

    Attributes:
        plan: with the kernel of each step, and why it has none.
        bindings: the kernel of each step, or why it is on the library.
        tilings: of those that are not tiled as their kernel's default says, by index.
        scales: of what is in 8 bits, in "fp8".
        key: the model's, whatever its batch size.
        running: the step that is being measured or checked; -2 if none is.
    """

    running = -2

    def __init__(self, plan: Plan, model: ModelFile, target: Target, workspace: Workspace) -> None:
        self.plan, self.target, self._workspace = plan, target, workspace
        self.opset = model.model.opset_imports.get("", 1)
        self.bindings: list[Binding | str] = []
        self._kernels: list[Binding | str] = []  # those that there are, in use or not
        self.tilings: dict[int, Config] = {}
        self.scales = Scales(plan, model, workspace) if target.precision == "fp8" else None
        self.key = ""

    def choose(self) -> None:
        """Give each step its kernel, and the tiling that was measured to be fastest here."""
        plan, workspace = self.plan, self._workspace
        self.bindings = choice.bindings(plan, self.target, workspace)
        if self.scales is not None:
            self.scales.mark(self.bindings)
        self.key = disk.model_key(self.bindings, self.target.precision)
        self._kernels = list(self.bindings)
        for index, binding in self.on_kernels:
            if binding.waits:
                self.bindings[index] = UNMEASURED
        if workspace.gpu.is_gpu:
            cache = disk.open_cache(self.target.device)
            for index, binding in self.offered():
                self.set(index, cache.step(disk.step_key(binding, self.sharing(index))))
        self._annotate()

    def offered(self) -> Iterator[tuple[int, Binding]]:
        """The steps that a kernel may be for, each on it as it is looked at."""
        for index, binding in enumerate(self._kernels):
            if isinstance(binding, str) or self.bindings[index] not in (binding, UNMEASURED):
                continue
            self.bindings[index] = binding  # what becomes of one may matter to the next
            yield index, binding

    @property
    def on_kernels(self) -> Iterator[tuple[int, Binding]]:
        """The steps that have a kernel, as of now, with their index."""
        for index, binding in enumerate(self.bindings):
            if not isinstance(binding, str):
                yield index, binding

    def binding(self, index: int) -> Binding:
        """That of a step on a kernel."""
        binding = self.bindings[index]
        assert not isinstance(binding, str)
        return binding

    def tiling(self, index: int) -> Config:
        """How a step's kernel is tiled."""
        return self.tilings.get(index) or self.binding(index).default

    def sharing(self, index: int) -> Sharing:
        """What a step does for a norm, or has done for it."""
        return sharing(index, self.plan, self.bindings, self.tilings)

    def use(self, index: int, choice: Config | str) -> None:
        """Run a step's kernel tiled like this, or on the library for the reason given."""
        self.set(index, choice)
        if self.scales is not None:
            self.scales.mark(self.bindings)
        self._annotate()

    def forget(self, index: int) -> str:
        """Go on without the tiling that was measured for a step; its label."""
        label = self.tilings.pop(index).label
        self.set(index, None)
        self._annotate()
        return label

    def fill_scales(self) -> None:
        """Give what is in 8 bits its scales; samples may run for it."""
        if self.scales is not None:
            self.scales.fill(self.bindings)

    def bound(self) -> list[Binding | BoundStep]:
        """The steps as a program takes them: those without a kernel on torch's ops."""
        self.fill_scales()
        place = (self.opset, self.target.device, self.target.dtype)
        return [
            library.bind(step, self.plan.weights, *place) if isinstance(bound, str) else bound
            for step, bound in zip(self.plan.steps, self.bindings, strict=True)
        ]

    def set(self, index: int, choice: Config | str | None) -> None:
        """None: nothing is known of it."""
        if isinstance(choice, str):
            self.bindings[index] = MEASURED if choice == disk.LIBRARY else choice
        elif choice is not None:
            self.tilings[index] = choice
        elif self.binding(index).waits and index not in self.tilings:
            self.bindings[index] = UNMEASURED

    def _annotate(self) -> None:
        steps = [
            replace(step, kernel="library", note=bound)
            if isinstance(bound, str)
            else bound.labelled
            for step, bound in zip(self.plan.steps, self.bindings, strict=True)
        ]
        steps = concat.annotated(steps, self.bindings, self.plan)
        steps = norms.annotated(steps, self.plan, self.bindings, self.tilings)
        self.plan = replace(self.plan, steps=tuple(steps))
