"""A plan on Triton kernels, ready to run: captures, replays, goes on without what fails.

Imported once there is a GPU to run on: it imports Triton.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fastgan import latents, ops
from fastgan.engine.arena import Lifetime
from fastgan.engine.base import Executable, Target
from fastgan.engine.launches import WHOLE, Launches
from fastgan.engine.prepared import Run
from fastgan.engine.triton import disk, tuning
from fastgan.engine.triton.check import failures
from fastgan.engine.triton.check.belief import Belief, KnownFault
from fastgan.engine.triton.counters import Drawn
from fastgan.engine.triton.noise import CountedNoise
from fastgan.engine.triton.program import Program
from fastgan.engine.triton.steps import Steps
from fastgan.engine.triton.work import SAMPLER, LaunchError, Place, Work
from fastgan.engine.triton.workspace import Workspace
from fastgan.errors import BackendError, one_line
from fastgan.host import gpu
from fastgan.images.format import ImageFormat, as_asked
from fastgan.inputs.draws import Draw
from fastgan.kernels import compiling
from fastgan.kernels.types import Config
from fastgan.model.file import ModelFile
from fastgan.model.signature import Shapes
from fastgan.ops.random import current_source, using_noise
from fastgan.plan import Plan, make
from fastgan.plan.merge import merge

log = logging.getLogger("fastgan")

Inputs = Mapping[str, Tensor | Draw]


class TritonExecutable(Executable):
    """See the module. Calls from several threads, on any streams, take turns.

    Args:
        model, target, shapes: what to plan.
        workspace: that of all executables of the model; None for one of its own.

    Attributes:
        plan: with the kernel of each step, and why it has none.
        steps: what runs each of its steps.
    """

    plan: Plan

    def __init__(
        self,
        model: ModelFile,
        target: Target,
        shapes: Shapes,
        workspace: Workspace | None = None,
    ) -> None:
        self.target = target
        self._name = model.name
        self._workspace = workspace or Workspace(target.device)
        self._gpu = self._workspace.gpu
        self._loaded: set[Drawn] = set()  # what was drawn by value once
        self.plan = merge(make(model.model, shapes, model.limits))
        self.steps = Steps(self.plan, model, target, self._workspace)
        # A graph would replay the numbers that its capture drew, unless counters do.
        found = (ops.find("", step.op, self.steps.opset) for step in self.plan.steps)
        self._draws_noise = any(op is not None and op.random for op in found)
        self._noise = CountedNoise(self._workspace)
        self._program: Program | None = None
        self._formats, self._draws = True, "Triton" not in latents.failed
        self._launches = Launches(self.plan, target.device)
        with self.turn():  # weights are packed in the order of the device's work
            self.steps.choose()
        self.plan = self.steps.plan
        self._belief = Belief(self.steps, self._gpu, self._launches)

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """See `Executable.__call__`."""
        with self.turn():
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
        with self.turn():
            work = self._run(inputs, image)
            if not self._believes_image(work, inputs, image):
                work = self._run(inputs, image)
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

    def prepare(self, inputs: Inputs, image: ImageFormat, out: Tensor) -> Run:
        """See `Executable.prepare`."""
        from fastgan.engine.triton.prepared import TritonRun

        return TritonRun(self, inputs, image, out)

    def run_at(self, inputs: Inputs, place: Place) -> None:
        """A run into a place, checked and captured if it is the first."""
        image = place.image.asked
        with self.turn():
            work = self._run(inputs, image, place)
            if not self._believes_image(work, inputs, place.image):
                self._run(inputs, image, place)

    @property
    def workspace(self) -> Workspace:
        """That of all executables of the model."""
        return self._workspace

    @property
    def program(self) -> Program | None:
        """What runs now, if that is known; another one once a kernel has been given up."""
        return self._program

    @property
    def draws_noise(self) -> bool:
        """Whether the graph draws numbers itself: of which samples, a run has to be told."""
        return self._draws_noise

    @property
    def watched(self) -> bool:
        """Whether somebody looks at its steps."""
        return bool(self._launches)

    def failure(self, error: Exception) -> Exception:
        """What to raise of what a replay raised."""
        if isinstance(error, BackendError) or not failures.is_sticky(error):
            return error
        return failures.sticky(self._name, self._where(self.steps.running), error)

    def first_nonfinite(self, inputs: Inputs) -> str | None:
        """See `Executable.first_nonfinite`."""
        with self.turn(), self._library_settings():
            program = self._built()
            program.load(inputs)
            return program.first_nonfinite()

    def warm_up(self, image: ImageFormat | None, inputs: Inputs | None = None) -> None:
        """Compile and capture what a run to these images (None: all outputs) takes.

        inputs: such as there will be; tensors if None.
        """
        with self.turn():
            given = image if self._formats else None
            self._compile_ahead(given)
            self._run(inputs or self.examples(), given)

    def _compile_ahead(self, image: ImageFormat | None) -> None:
        """By several processes, as far as it is known what a run launches."""
        if not self._gpu.is_gpu or self._gpu.being_captured():
            return
        with contextlib.suppress(Exception):  # the run meets it again, and knows what to do
            program = self._built()
            program.work_for(image)
            compiling.ahead(program.calls)

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
        return 0 if self._program is None else self._program.layout.bytes

    def layout(self) -> tuple[list[Lifetime], dict[str, int], int]:
        """The buffers in one block of memory: their lifetimes, offsets and its size, in bytes."""
        with self._workspace.turn(), self._library_settings():
            made = self._built().layout
            return made.lifetimes, made.offsets, made.bytes

    # Tuning --------------------------------------------------------------------------------------

    def tune(
        self,
        image: ImageFormat | None,
        *,
        seconds: float = math.inf,
        measure: tuning.Measure | None = None,
    ) -> int:
        """See `Executable.tune` and `tuning.Tuner`, whose `measure` it is."""
        tuner = tuning.Tuner(self.steps, self._gpu, image, measure, self.use)
        with self.turn(), self._library_settings():
            given = image if self._formats else None
            return tuner.run(seconds, lambda: self._run(self.examples(), given))

    @property
    def best_batch(self) -> int | None:
        """The batch size that was measured to take the least time per image on this device."""
        if not self._gpu.is_gpu:
            return None
        return disk.open_cache(self.target.device).batch(self.steps.key)

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
        if self.steps.scales is not None:
            scales = self.steps.scales
            scales.samples, scales.known_plan = (shapes, samples), known_plan

    def use(self, index: int, choice: Config | str) -> None:
        """Run a step's kernel tiled like this, or on the library for the reason given."""
        with self.turn():
            self.steps.use(index, choice)
            self.plan, self._program = self.steps.plan, None
            self._belief.doubt()

    def examine(self, image: ImageFormat) -> Iterator[dict[str, Any]]:
        """Check each step on a kernel, as where these images are wanted; see `Belief.examine`."""
        with self.turn():
            yield from self._belief.examine(image if self._formats else None)

    def _built(self) -> Program:
        if self._program is None:
            steps = self.steps
            self._program = Program(
                self.plan, steps.bound(), steps.tilings, self.target, self._workspace
            )
        return self._program

    # Running -------------------------------------------------------------------------------------

    def _run(self, inputs: Inputs, image: ImageFormat | None, place: Place | None = None) -> Work:
        """Run on these inputs, without a kernel that turns out not to work on this GPU."""
        while True:
            try:
                self._belief.believe(image if self._formats else None)
                program = self._built()
                drawn = program.drawable(inputs) if self._may_draw() else ()
                if place is None:
                    work = program.work_for(image if self._formats else None, drawn)
                else:
                    work = program.work_at(place, drawn, self._formats)
                if self._gpu.is_gpu and drawn not in self._loaded:
                    program.load(inputs)  # as in a caller's own graph, for which it is loaded here
                    self._loaded.add(drawn)
                program.load(inputs, drawn, work.moved)
                self._go(work, inputs)
                program.drew(inputs, drawn)
                return work
            except Exception as error:
                self._handle(error)

    def _handle(self, error: Exception) -> None:
        """Make the next attempt one without what failed, or raise what a failed run raises."""
        index, reason = -2, error
        if isinstance(error, LaunchError):
            index, reason = error.index, error.reason
        if failures.is_memory(reason):
            # Whoever goes on does so with a smaller batch, which needs this memory.
            self._program = None
            self._workspace.release()
            raise failures.as_memory(reason) from None
        if failures.is_sticky(reason):
            self.steps.running = max(self.steps.running, index)
            raise reason
        if index == -2 or not self._gpu.is_gpu:
            raise reason from None
        if failures.lacks_compiler(reason):
            needed = f"{gpu.COMPILER}: {gpu.INSTALL}"
            self._without_kernels(failures.first_line(reason), needed)
            return
        self._belief.refute(index, failures.first_line(reason))
        self._give_up(index, reason)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The workspace's turn; a failure of the device is raised as one, with its step."""
        try:
            with self._workspace.turn():
                yield
        except BackendError:
            raise
        except Exception as error:
            if not failures.is_sticky(error):
                raise
            raise self.failure(error) from error

    def _where(self, index: int) -> str:
        """A step by its nodes, or what is known of it where that is not sure."""
        if 0 <= index < len(self.plan.steps):
            return self._launches.name(index)
        return f"one of its {len(self.plan.steps)} steps, or an earlier call"

    def _believes_image(self, work: Work, inputs: Inputs, image: ImageFormat) -> bool:
        """Whether a first image, on a GPU that has not made it yet, is the library's as a whole."""
        if not self._belief.compares(image) or self._draws_noise:
            return True
        made = self._outputs(work)[image.name] if work.result is None else work.result
        fault = self._belief.fault_of_image(image, inputs, made, self._batch)
        if fault is None:
            return True
        self._without_kernels(fault, "a program whose images are right on this GPU")
        return False

    def _without_kernels(self, found: str, needed: str) -> None:
        """On the library altogether."""
        self._refuse_if_strict(self._name, found)
        log.warning("%s: no kernels: found %s; needed %s", self._name, found, needed)
        self._draws = self._formats = False
        for index, _ in self.steps.on_kernels:
            self.use(index, found)
        self._workspace.fell_back(self._name, found, needed)

    def _refuse_if_strict(self, where: str, found: str) -> None:
        if self._workspace.strict:
            raise BackendError(where, found, "its kernel, since strict=True")

    def _go(self, work: Work, inputs: Inputs) -> None:
        if self._draws_noise and self._may_draw() and CountedNoise.draws(current_source()):
            self._noise.begin(current_source())
            with using_noise(self._noise):
                self._launch(work, inputs, captures=True)
            self._noise.drew()
        else:
            self._launch(work, inputs, captures=not self._draws_noise)

    def _launch(self, work: Work, inputs: Inputs, captures: bool) -> None:
        """By a graph, if that may be captured and replayed; else one after the other."""
        being_captured = self._being_captured()  # then this becomes a part of the caller's graph
        if self._launches and not being_captured:
            self._go_named(work)
            return
        if work.replay is not None and captures and not being_captured:
            work.replay()
            return
        program, capture = self._built(), self._workspace.capture
        with self._library_settings():
            captures = captures and not work.plain and not being_captured
            if capture is not None and captures:
                try:
                    work.replay = capture(work.launch)
                except Exception as error:
                    self._no_graph(work, error)
                else:
                    work.kept = program.outputs() if work.result is None else None
                # What ran so far may have written over the inputs.
                program.load(inputs, work.drawn, work.moved)
                self._noise.begin(self._noise.source)
                if work.replay is not None:
                    work.replay()
                    return
            elif not being_captured:
                work.replay = work.kept = None  # what was kept there is not what is made now
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
        if failures.is_memory(error) or failures.is_sticky(error):
            raise error
        for one in (error, error.__context__, error.__cause__):
            if isinstance(one, LaunchError):
                raise one
        self._refuse_if_strict(self._name, f"no CUDA graph ({failures.first_line(error)})")
        work.plain = True
        log.warning(
            "%s: no CUDA graph at %s, so launched step by step, which is slower: %s",
            self._name,
            self._batch,
            one_line(error),
        )

    def _give_up(self, index: int, reason: Exception) -> None:
        """From now on without a kernel that can't be compiled or launched here."""
        text = failures.first_line(reason)
        if index in self.steps.tilings:  # a tuned one: the default may still do
            label = self.steps.forget(index)
            self.plan, self._program = self.steps.plan, None
            self._belief.doubt()
            log.warning("%s: tiling %s is not used: %s", self._name, label, text)
            return
        if index == SAMPLER:
            where = "the latents"
        elif index < len(self.steps.bindings):
            where = " + ".join(self.plan.steps[index].origin)
        else:
            where = "the image format"
        self._refuse_if_strict(f"{self._name}: {where}", f"a kernel that fails here: {text}")
        if index == SAMPLER:
            self._draws = False
        elif index >= len(self.steps.bindings):
            self._formats, self._program = False, None
        else:
            self.use(index, f"its kernel failed: {text}")
        self._workspace.fell_back(where, text, "a kernel that works on this GPU")
        level = logging.INFO if isinstance(reason, KnownFault) else logging.WARNING
        message = "%s: the kernel of %s failed, going on without: %s"
        log.log(level, message, self._name, where, text)

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
        return self._gpu.being_captured()

    def _library_settings(self) -> contextlib.AbstractContextManager[None]:
        """cuDNN's fastest algorithm, and its tf32 only where that was asked for."""
        return self.target.settings(benchmark=True)
