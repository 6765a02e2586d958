"""A plan's steps on the triton backend: the kernel of each and its tiling, or why it has none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from fastgan.engine.base import Target
from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import BoundStep
from fastgan.engine.triton import choice, concat, norms, tuning
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.scales import Scales
from fastgan.engine.triton.trials import ALONE, Sharing, sharing
from fastgan.engine.triton.workspace import Workspace
from fastgan.images.format import ImageFormat
from fastgan.kernels import compiling
from fastgan.kernels.types import Call, Config, capability_of
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
        self.key = tuning.model_key(self.bindings, self.target.precision)
        self._kernels = list(self.bindings)
        for index, binding in self.on_kernels:
            if binding.waits:
                self.bindings[index] = UNMEASURED
        if workspace.gpu.is_gpu:
            cache = tuning.open_cache(self.target.device)
            for index, binding in self._offered():
                self._set(index, cache.step(tuning.step_key(binding, self.sharing(index))))
        self._annotate()

    def _offered(self) -> Iterator[tuple[int, Binding]]:
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
        self._set(index, choice)
        if self.scales is not None:
            self.scales.mark(self.bindings)
        self._annotate()

    def forget(self, index: int) -> str:
        """Go on without the tiling that was measured for a step; its label."""
        label = self.tilings.pop(index).label
        self._set(index, None)
        self._annotate()
        return label

    def tune(
        self,
        image: ImageFormat | None,
        measure: tuning.Measure,
        deadline: float,
        use: Callable[[int, tuning.Choice], None],
    ) -> int:
        """Measure the steps that were not yet, keep it on disk, and use it.

        Args:
            image: the format to be fast for; None: all outputs.
            measure: seconds of a run.
            deadline: of `time.monotonic()`; steps not begun by then keep what they have.
            use: takes what is fastest for a step, where that is not what it has.

        Returns:
            How many were measured.
        """
        self.fill_scales()
        cache, measured = tuning.open_cache(self.target.device), 0
        if self._workspace.gpu.is_gpu and time.monotonic() <= deadline:
            compiling.ahead(self._to_be_tried(image, cache), deadline)
        for index, binding in self._offered():
            if time.monotonic() > deadline or not binding.tunable:
                self._set(index, None)
                continue
            shared = self.sharing(index)
            key = tuning.step_key(binding, shared)
            choice = cache.step(key)
            if choice is None:
                self.running = index
                written = self._written(binding, image)
                given = (binding, dict(self.plan.weights), self.opset, written)
                try:
                    outcome = tuning.fastest(*given, measure, deadline, shared)
                except BaseException:
                    self._set(index, None)
                    raise
                if outcome is None:
                    self._set(index, None)
                    continue
                measured, choice = measured + 1, outcome.choice
                cache.put_step(key, choice, outcome.seconds)
            if choice != self.tilings.get(index):  # else what was captured stays
                use(index, choice)
        return measured

    def _written(self, binding: Binding, image: ImageFormat | None) -> ImageFormat | None:
        """The format that a step writes while it is measured."""
        last = binding.step.outputs[0] in self.plan.outputs and binding.formats
        return image if last and len(binding.output) == 4 else None

    def _to_be_tried(self, image: ImageFormat | None, cache: tuning.Cache) -> Iterator[Call]:
        """What a tuner launches of the steps that share no norm: as far as it is known by now."""
        for index, binding in self._offered():
            shared = self.sharing(index)
            known = cache.step(tuning.step_key(binding, shared))
            if known is None and binding.tunable and shared == ALONE:
                for tiling in binding.configs(capability_of(self.target.device)):
                    with contextlib.suppress(Exception):  # the tuner meets it again
                        yield from binding.launched(tiling, self._written(binding, image))
            self._set(index, None)

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

    def _set(self, index: int, choice: Config | str | None) -> None:
        """None: nothing is known of it."""
        if isinstance(choice, str):
            self.bindings[index] = MEASURED if choice == tuning.LIBRARY else choice
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
