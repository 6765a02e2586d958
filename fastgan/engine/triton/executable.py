"""A plan on Triton kernels, ready to run: chooses for each step, captures, replays, copies out."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastgan import ops
from fastgan.engine import cuda_settings
from fastgan.engine.base import Executable, Target
from fastgan.engine.launches import WHOLE, Launches
from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import BoundStep
from fastgan.engine.triton.workspace import Workspace
from fastgan.errors import Refusal
from fastgan.images.format import ImageFormat, as_asked
from fastgan.inputs.draws import Draw
from fastgan.model.file import ModelFile
from fastgan.model.signature import Shapes
from fastgan.plan import Plan, make
from fastgan.plan.merge import merge

if TYPE_CHECKING:
    from fastgan.engine.triton.arena import Lifetime
    from fastgan.engine.triton.binding import Binding
    from fastgan.engine.triton.program import Program, Work
    from fastgan.engine.triton.scales import Scales
    from fastgan.kernels.types import Config

log = logging.getLogger("fastgan")

Inputs = Mapping[str, Tensor | Draw]

#: The note of a step that has a kernel, and is on the library all the same.
_MEASURED = "the library op measured faster"


class TritonExecutable(Executable):
    """See the module. Calls from several threads, on any streams, take turns.

    Args:
        model, target, shapes: what to plan.
        workspace: that of all executables of the model; None for one of its own.

    Attributes:
        plan: with the kernel of each step, and why it has none.
    """

    plan: Plan

    def __init__(
        self,
        model: ModelFile,
        target: Target,
        shapes: Shapes,
        workspace: Workspace | None = None,
    ) -> None:
        from fastgan.engine.triton import choice as triton_choice
        from fastgan.engine.triton import tuning as triton_tuning

        self.target = target
        self._name = model.name
        self._opset = model.model.opset_imports.get("", 1)
        self._workspace = workspace or Workspace(target.device)
        self.plan = merge(make(model.model, shapes, model.limits))
        # A graph would replay the numbers that its capture drew.
        found = (ops.find("", step.op, self._opset) for step in self.plan.steps)
        self._draws_noise = any(op is not None and op.random for op in found)
        self._bindings: list[Binding | str] = [
            triton_choice.bind(step, self.plan, target, self._workspace) for step in self.plan.steps
        ]
        self._scales = self._eight_bits(model)
        self._configs: dict[int, Config] = {}
        self._program: Program | None = None
        self._formats = self._draws = True
        self._key = triton_tuning.model_key(self._bindings, target.precision)
        if target.device.type == "cuda":
            self._use_measured()
        self._annotate()
        self._launches = Launches(self.plan, target.device)

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """See `Executable.__call__`."""
        with self._workspace.turn():
            work = self._run(inputs, None)
            return {name: tensor.clone() for name, tensor in self._outputs(work).items()}

    def images(
        self, inputs: Inputs, image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Executable.images`.

        Args:
            inputs, image: as there.
            out: where the images are to go. It is written and returned if they have its shape
                and type, else left alone.
        """
        with self._workspace.turn():
            work = self._run(inputs, image if self._formats else None)
            if work.result is not None:
                result = work.result
                nonfinite = None if work.flag is None else (work.flag != 0)[0]
            else:
                result = as_asked(self._outputs(work)[image.name], image)
                guarded = self.target.dtype != torch.float32 and result.is_floating_point()
                nonfinite = ~result.isfinite().all() if guarded else None
            fits = out is not None and (out.shape, out.dtype) == (result.shape, result.dtype)
            if out is None or not fits or out.device != result.device:
                return result.clone(), nonfinite
            return out.copy_(result), nonfinite

    def first_nonfinite(self, inputs: Inputs) -> str | None:
        """See `Executable.first_nonfinite`."""
        with self._workspace.turn(), self._library_settings():
            program = self._built()
            program.load(inputs)
            return program.first_nonfinite()

    def warm_up(self, image: ImageFormat | None, inputs: Inputs | None = None) -> None:
        """Compile and capture what a run to these images (None: all outputs) takes.

        inputs: such as there will be; tensors if None.
        """
        with self._workspace.turn():
            self._run(inputs or self.examples(), image if self._formats else None)

    def examples(self) -> dict[str, Tensor]:
        """Inputs of the planned shapes: normal numbers, zeros where whole ones are taken."""
        made = {}
        for name in self.plan.inputs:
            buffer, device = self.plan.buffers[name], self.target.device
            if buffer.dtype.is_floating_point:
                made[name] = torch.randn(buffer.shape, device=device)
            else:
                made[name] = torch.zeros(buffer.shape, dtype=buffer.dtype, device=device)
        return made

    @property
    def bytes(self) -> int:
        """Device memory of the buffers, which all batch sizes of a model share; 0 before use."""
        return 0 if self._program is None else self._program.bytes

    def layout(self) -> tuple[list[Lifetime], dict[str, int], int]:
        """The buffers in one block of memory: their lifetimes, offsets and its size, in bytes."""
        with self._workspace.turn(), self._library_settings():
            program = self._built()
            return program.lifetimes, program.offsets, program.bytes

    # Tuning --------------------------------------------------------------------------------------

    def tune(
        self,
        image: ImageFormat | None,
        *,
        seconds: float = math.inf,
        measure: Callable[[Callable[[], object]], float] | None = None,
    ) -> int:
        """Measure what was not measured yet, keep it on disk, and use it from now on.

        Args:
            image: the format to be fast for; None: all outputs.
            seconds: how long it may take; steps not begun by then keep what they have.
            measure: seconds of one run of a callable; on the GPU, as CUDA graphs, if None.

        Returns:
            How many steps were measured.
        """
        from fastgan.engine.triton import tuning
        from fastgan.engine.triton.trials import sharing

        measure = measure or tuning.on_gpu
        deadline = time.monotonic() + seconds
        cache = tuning.open_cache(self.target.device)
        measured = 0
        with self._workspace.turn(), self._library_settings():
            self._built()  # which gives 8 bits their scales
            for index, binding in enumerate(self._bindings):
                if isinstance(binding, str) or time.monotonic() > deadline:
                    continue
                if not binding.tunable:
                    continue
                shared = sharing(index, self.plan, self._bindings, self._configs)
                key = tuning.step_key(binding, shared)
                choice = cache.step(key)
                if choice is None:
                    last = binding.step.outputs[0] in self.plan.outputs and binding.formats
                    outcome = tuning.fastest(
                        binding,
                        dict(self.plan.weights),
                        self._opset,
                        image if last and len(binding.output) == 4 else None,
                        measure,
                        deadline,
                        shared,
                    )
                    if outcome is None:
                        continue
                    measured, choice = measured + 1, outcome.choice
                    cache.put_step(key, choice, outcome.seconds)
                self.use(index, _MEASURED if isinstance(choice, str) else choice)
            work = self._run(self.examples(), image if self._formats else None)
            batch = max((self.plan.buffers[n].shape[0] for n in self.plan.inputs), default=1)
            per_image = measure(work.replay or work.launch) / batch
            cache.put_batch(self._key, batch, per_image)
        return measured

    @property
    def best_batch(self) -> int | None:
        """The batch size that was measured to take the least time per image on this device."""
        if self.target.device.type != "cuda":
            return None
        from fastgan.engine.triton import tuning as triton_tuning

        return triton_tuning.open_cache(self.target.device).batch(self._key)

    def _use_measured(self) -> None:
        from fastgan.engine.triton import tuning
        from fastgan.engine.triton.trials import sharing

        cache = tuning.open_cache(self.target.device)
        for index, binding in enumerate(self._bindings):
            if isinstance(binding, str):
                continue
            shared = sharing(index, self.plan, self._bindings, self._configs)
            choice = cache.step(tuning.step_key(binding, shared))
            if isinstance(choice, str):
                self._bindings[index] = _MEASURED
            elif choice is not None:
                self._configs[index] = choice

    # Building ------------------------------------------------------------------------------------

    def _eight_bits(self, model: ModelFile) -> Scales | None:
        from fastgan.engine.triton.scales import Scales

        if self.target.precision != "fp8":
            return None
        scales = Scales(self.plan, model, self._workspace)
        scales.mark(self._bindings)
        return scales

    def calibrate(
        self,
        shapes: Shapes,
        samples: Callable[[], Iterable[Inputs]],
        known_plan: Callable[[Shapes], Plan | None],
    ) -> None:
        """Say what to run on, on first use, to see how large results in 8 bits become.

        Args:
            shapes: of each sample, the same for every batch size.
            samples: inputs by name.
            known_plan: the plan for shapes, if there is one by now.
        """
        if self._scales is not None:
            self._scales.samples, self._scales.known_plan = (shapes, samples), known_plan

    def use(self, index: int, choice: Config | str) -> None:
        """Run a step's kernel tiled like this, or on the library for the reason given."""
        with self._workspace.turn():
            if isinstance(choice, str):
                self._bindings[index] = choice
            else:
                self._configs[index] = choice
            if self._scales is not None:
                self._scales.mark(self._bindings)
            self._program = None
            self._annotate()

    def _annotate(self) -> None:
        from fastgan.engine.triton import concat as triton_concat
        from fastgan.engine.triton import norms as triton_norms

        steps = [
            replace(step, kernel="library", note=bound)
            if isinstance(bound, str)
            else bound.labelled
            for step, bound in zip(self.plan.steps, self._bindings, strict=True)
        ]
        steps = triton_concat.annotated(steps, self._bindings, self.plan)
        steps = triton_norms.annotated(steps, self.plan, self._bindings, self._configs)
        self.plan = replace(self.plan, steps=tuple(steps))

    def _built(self) -> Program:
        from fastgan.engine.triton.program import Program

        if self._program is None:
            if self._scales is not None:
                self._scales.fill(self._bindings)
            place = (self._opset, self.target.device, self.target.dtype)
            steps: list[Binding | BoundStep] = [
                library.bind(step, self.plan.weights, *place) if isinstance(bound, str) else bound
                for step, bound in zip(self.plan.steps, self._bindings, strict=True)
            ]
            self._program = Program(self.plan, steps, self._configs, self.target, self._workspace)
        return self._program

    # Running -------------------------------------------------------------------------------------

    def _run(self, inputs: Inputs, image: ImageFormat | None) -> Work:
        """Run on these inputs, without a kernel that turns out not to work on this GPU."""
        from fastgan.engine.triton.program import LaunchError

        while True:
            try:
                program = self._built()
                drawn = program.drawable(inputs) if self._may_draw() else ()
                work = program.work_for(image if self._formats else None, drawn)
                program.load(inputs, drawn)
                self._go(work, inputs)
                program.drew(inputs, drawn)
                return work
            except torch.cuda.OutOfMemoryError:
                # Whoever goes on does so with a smaller batch, which needs this memory.
                self._program = None
                self._workspace.release()
                raise
            except LaunchError as error:
                if not forgives(self.target.device):
                    raise error.reason from None
                self._give_up(error.index, error.reason)

    def _go(self, work: Work, inputs: Inputs) -> None:
        being_captured = self._being_captured()  # then this becomes a part of the caller's graph
        if self._launches and not being_captured:
            self._go_named(work)
            return
        if work.replay is not None and not being_captured:
            work.replay()
            return
        program, capture = self._built(), self._workspace.capture
        with self._library_settings():
            captures = not work.plain and not self._draws_noise and not being_captured
            if capture is not None and captures:
                try:
                    work.replay = capture(work.launch)
                except Exception as error:
                    self._no_graph(work, error)
                else:
                    work.kept = program.outputs() if work.result is None else None
                # What ran so far may have written over the inputs.
                program.load(inputs, work.drawn)
                if work.replay is not None:
                    work.replay()
                    return
            work.launch()

    def _go_named(self, work: Work) -> None:
        """The same where somebody looks: a graph under one name, or each step under its own."""
        if work.replay is not None and not self._launches.apart:
            self._launches.call(WHOLE, work.replay)
            return
        # What library ops make now is not what they made within the graph: it is captured again.
        work.replay = work.kept = None
        with self._library_settings():
            work.launch_named(self._launches)

    def _no_graph(self, work: Work, error: Exception) -> None:
        """Go on without a graph, unless the failure is another one."""
        from fastgan.engine.triton.program import LaunchError

        for one in (error, error.__context__, error.__cause__):
            if isinstance(one, (LaunchError, torch.cuda.OutOfMemoryError)):
                raise one
        work.plain = True
        log.warning(
            "%s: no CUDA graph at %s, so launched step by step, which is slower: %s",
            self._name,
            self._batch,
            " ".join(str(error).split())[:200],
        )

    def _give_up(self, index: int, reason: Exception) -> None:
        """From now on without a kernel that can't be compiled or launched here."""
        from fastgan.engine.triton.program import SAMPLER

        text = " ".join(str(reason).split())[:200] or type(reason).__name__
        if index == SAMPLER:
            where, self._draws = "the latents", False
        elif index < len(self._bindings):
            where = " + ".join(self.plan.steps[index].origin)
            if index in self._configs:  # a tuned one: the default may still do
                del self._configs[index]
                self._program = None
            else:
                self.use(index, f"its kernel failed: {text}")
        else:
            where, self._formats, self._program = "the image format", False, None
        log.warning("%s: the kernel of %s failed, going on without: %s", self._name, where, text)
        needed = "a kernel that works on this GPU"
        self._workspace.fallbacks.append(Refusal("triton", where, text, needed))

    def _outputs(self, work: Work) -> dict[str, Tensor]:
        kept = None if self._being_captured() else work.kept
        return self._built().outputs() if kept is None else kept

    @property
    def _batch(self) -> str:
        shapes = [tuple(self.plan.buffers[name].shape) for name in self.plan.inputs]
        return " ".join("x".join(map(str, shape)) for shape in shapes)

    def _may_draw(self) -> bool:
        """Whether launches may draw samples; a caller's graph would move their counters unseen."""
        return self._draws and not self._being_captured()

    def _being_captured(self) -> bool:
        """Whether the caller is capturing a graph of their own."""
        on_gpu = self.target.device.type == "cuda"
        return on_gpu and bool(torch.cuda.is_current_stream_capturing())

    @contextlib.contextmanager
    def _library_settings(self) -> Iterator[None]:
        """cuDNN's fastest algorithm, and its tf32 only where that was asked for."""
        if self.target.device.type != "cuda":
            yield
            return
        with cuda_settings.library(self.target.precision, benchmark=True):
            yield


def forgives(device: torch.device) -> bool:
    """Whether a kernel may fail there: a GPU that nobody tried it on. Interpreted it may not."""
    return device.type == "cuda"
