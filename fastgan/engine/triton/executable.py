"""A plan on Triton kernels, ready to run: chooses for each step, captures, replays, copies out."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan import latents, ops
from fastgan.engine.base import Executable, Target
from fastgan.engine.launches import WHOLE, Launches
from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import BoundStep
from fastgan.engine.triton import failures
from fastgan.engine.triton.workspace import Workspace
from fastgan.errors import BackendError
from fastgan.host import gpu
from fastgan.images.format import ImageFormat, as_asked
from fastgan.inputs.draws import Draw
from fastgan.model.file import ModelFile
from fastgan.model.signature import Shapes
from fastgan.plan import Plan, make
from fastgan.plan.merge import merge

if TYPE_CHECKING:
    from fastgan.engine.triton.arena import Lifetime
    from fastgan.engine.triton.binding import Binding
    from fastgan.engine.triton.counters import Drawn
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
        self._gpu = self._workspace.gpu
        self._believed: set[tuple[int, str]] = set()  # steps as they were checked
        self._trusted: set[ImageFormat | None] = set()  # formats of which all were
        self._compared: set[ImageFormat] = set()
        self._loaded: set[Drawn] = set()  # what was drawn by value once
        self._running = -2
        self.plan = merge(make(model.model, shapes, model.limits))
        # A graph would replay the numbers that its capture drew.
        found = (ops.find("", step.op, self._opset) for step in self.plan.steps)
        self._draws_noise = any(op is not None and op.random for op in found)
        self._configs: dict[int, Config] = {}
        self._program: Program | None = None
        self._formats, self._draws = True, "Triton" not in latents.failed
        with self._turn():  # weights are packed in the order of the device's work
            self._bindings: list[Binding | str] = [
                triton_choice.bind(step, self.plan, target, self._workspace)
                for step in self.plan.steps
            ]
            self._scales = self._eight_bits(model)
            self._key = triton_tuning.model_key(self._bindings, target.precision)
            if self._gpu.is_gpu:
                self._use_measured()
            self._annotate()
        self._launches = Launches(self.plan, target.device)

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """See `Executable.__call__`."""
        with self._turn():
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
        with self._turn():
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

    def first_nonfinite(self, inputs: Inputs) -> str | None:
        """See `Executable.first_nonfinite`."""
        with self._turn(), self._library_settings():
            program = self._built()
            program.load(inputs)
            return program.first_nonfinite()

    def warm_up(self, image: ImageFormat | None, inputs: Inputs | None = None) -> None:
        """Compile and capture what a run to these images (None: all outputs) takes.

        inputs: such as there will be; tensors if None.
        """
        with self._turn():
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
            measure: seconds of one run of a callable; by events on the GPU if None.

        Returns:
            How many steps were measured.
        """
        from fastgan.engine.triton import tuning
        from fastgan.engine.triton.trials import sharing

        replays = measure or partial(self._gpu.seconds, captured=False)
        measure = measure or self._gpu.seconds
        deadline = time.monotonic() + seconds
        cache = tuning.open_cache(self.target.device)
        measured = 0
        with self._turn(), self._library_settings():
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
                    self._running = index
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
                if choice != self._configs.get(index):  # else what was captured stays
                    self.use(index, _MEASURED if isinstance(choice, str) else choice)
            work = self._run(self.examples(), image if self._formats else None)
            batch = max((self.plan.buffers[n].shape[0] for n in self.plan.inputs), default=1)
            per_image = replays(work.replay or work.launch) / batch
            cache.put_batch(self._key, batch, per_image)
        return measured

    @property
    def best_batch(self) -> int | None:
        """The batch size that was measured to take the least time per image on this device."""
        if not self._gpu.is_gpu:
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
        with self._turn():
            self._trusted.clear()
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
        while True:
            try:
                self._believe(image)
                program = self._built()
                drawn = program.drawable(inputs) if self._may_draw() else ()
                work = program.work_for(image if self._formats else None, drawn)
                if self._gpu.is_gpu and drawn not in self._loaded:
                    program.load(inputs)  # as in a caller's own graph, for which it is loaded here
                    self._loaded.add(drawn)
                program.load(inputs, drawn)
                self._go(work, inputs)
                program.drew(inputs, drawn)
                return work
            except Exception as error:
                self._handle(error)

    def _handle(self, error: Exception) -> None:
        """Make the next attempt one without what failed, or raise what a failed run raises."""
        from fastgan.engine.triton.program import LaunchError

        index, reason = -2, error
        if isinstance(error, LaunchError):
            index, reason = error.index, error.reason
        if failures.is_memory(reason):
            # Whoever goes on does so with a smaller batch, which needs this memory.
            self._program = None
            self._workspace.release()
            raise failures.as_memory(reason) from None
        if failures.is_sticky(reason):
            self._running = max(self._running, index)
            raise reason
        if index == -2 or not self._gpu.is_gpu:
            raise reason from None
        if failures.lacks_compiler(reason):
            needed = f"{gpu.COMPILER}: {gpu.INSTALL}"
            self._without_kernels(failures.first_line(reason), needed)
            return
        self._keep_verdict(index, failures.first_line(reason))
        self._give_up(index, reason)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The workspace's turn; a failure of the device is raised as one, with its step."""
        try:
            with self._workspace.turn():
                yield
        except BackendError:
            raise
        except Exception as error:
            if not failures.is_sticky(error):
                raise
            raise failures.sticky(self._name, self._where(self._running), error) from error

    def _where(self, index: int) -> str:
        """A step by its nodes, or what is known of it where that is not sure."""
        if 0 <= index < len(self.plan.steps):
            return self._launches.name(index)
        return f"one of its {len(self.plan.steps)} steps, or an earlier call"

    # Checking ------------------------------------------------------------------------------------

    def _believe(self, image: ImageFormat | None) -> None:
        """Check what has not been checked on this GPU before; what is wrong is given up."""
        if image in self._trusted:
            return
        from fastgan.engine.triton import check

        if not self._gpu.is_gpu or not check.wanted() or self._gpu.being_captured():
            return
        for index, binding in enumerate(self._bindings):
            if isinstance(binding, str):
                continue
            last = self._program_maker(binding, image)
            key = (index, f"{self._tiling(index).label} {last.format if last else ''}")
            if key not in self._believed:
                if self._scales is not None:
                    self._scales.fill(self._bindings)
                self._check(index, binding, last)
                self._believed.add(key)
        self._trusted.add(image)

    def examine(self, image: ImageFormat) -> Iterator[dict[str, Any]]:
        """Check each step on a kernel, as where these images are wanted.

        Yields:
            Of each, before: {"what", "kernel", "format"}; and after: those, "verdict", "seconds".
        """
        from fastgan.engine.triton import check
        from fastgan.engine.triton.program import LaunchError

        with self._turn():
            if self._scales is not None:
                self._scales.fill(self._bindings)
            for index, binding in enumerate(self._bindings):
                if isinstance(binding, str):
                    continue
                last = self._program_maker(binding, image)
                row = {"what": self._launches.name(index), "kernel": binding.labelled.kernel}
                row["format"] = last.format if last else ""
                yield dict(row)
                began, verdict = time.monotonic(), check.OK
                try:
                    self._check(index, binding, last)
                except LaunchError as error:
                    if failures.is_sticky(error):
                        raise error.reason from None
                    verdict = failures.first_line(error.reason)
                yield {**row, "verdict": verdict, "seconds": time.monotonic() - began}

    def _believes_image(self, work: Work, inputs: Inputs, image: ImageFormat) -> bool:
        """Whether a first image, on a GPU that has not made it yet, is the library's as a whole."""
        if image in self._compared:
            return True
        from fastgan.engine.triton import check, tuning

        asked = self._gpu.is_gpu and check.wanted() and not self._gpu.being_captured()
        key = f"image {self._key} {self.target.precision} {image.format} {self._batch}"
        if not asked or self._draws_noise:
            return True
        self._compared.add(image)
        cache = tuning.open_cache(self.target.device)
        verdict = cache.verdict(key)
        if verdict is None:
            tensors = {
                name: value.tensor(self.target.device) if isinstance(value, Draw) else value
                for name, value in inputs.items()
            }
            made = self._outputs(work)[image.name] if work.result is None else work.result
            place = (self.plan, self._opset, self.target)
            try:
                verdict = check.fault_of_image(*place, tensors, image, made) or check.OK
            except Exception as error:
                if not failures.is_memory(error):
                    raise
                log.info("%s: not compared, for lack of memory", self._name)
                return True
            cache.put_verdict(key, verdict)
        if verdict == check.OK:
            return True
        self._without_kernels(verdict, "a program whose images are right on this GPU")
        return False

    def _program_maker(self, binding: Binding, image: ImageFormat | None) -> ImageFormat | None:
        """The format that a step writes, where it writes the images themselves."""
        if image is None or not self._formats or image.name not in binding.step.outputs:
            return None
        read = any(image.name in step.inputs for step in self.plan.steps)
        return image if binding.formats and len(binding.output) == 4 and not read else None

    def _tiling(self, index: int) -> Config:
        binding = self._bindings[index]
        assert not isinstance(binding, str)
        return self._configs.get(index) or binding.default

    def _check(self, index: int, binding: Binding, image: ImageFormat | None) -> None:
        from fastgan.engine.triton import check, tuning
        from fastgan.engine.triton.program import LaunchError
        from fastgan.engine.triton.trials import sharing

        cache = tuning.open_cache(self.target.device)
        tiling, steps = self._tiling(index), self._bindings
        shared = sharing(index, self.plan, steps, self._configs)
        flagged = image is not None and self.target.dtype != torch.float32
        key = tuning.checked_key(binding, shared, tiling, image)
        found = cache.verdict(key)
        if found == check.OK:
            return
        if found is not None and not found.startswith("running"):
            raise LaunchError(index, KnownFault(found))
        if found is not None and check.died(found):
            found = "a process that tried it did not come back"
            cache.put_verdict(key, found)
            raise LaunchError(index, KnownFault(found))
        self._running = index
        cache.put_verdict(key, check.running())
        weights = dict(self.plan.weights)
        subject = check.Subject(binding, tiling, shared, weights, self._opset, image, flagged)
        verdict = None
        try:
            with self._library_settings():
                verdict = check.fault_of(subject) or check.OK
        except Exception as error:
            if not failures.is_memory(error) and not failures.lacks_compiler(error):
                verdict = failures.first_line(error)
            raise LaunchError(index, error) from error
        finally:
            # What could not be judged is judged another time.
            tuning.open_cache(self.target.device).put_verdict(key, verdict)
        self._running = -2
        if verdict != check.OK:
            raise LaunchError(index, WrongResult(verdict))

    def _keep_verdict(self, index: int, verdict: str) -> None:
        """So that the next process does not fail, compile and warn again."""
        from fastgan.engine.triton import tuning
        from fastgan.engine.triton.trials import sharing

        if not 0 <= index < len(self._bindings):
            return
        binding = self._bindings[index]
        if isinstance(binding, str):
            return
        shared = sharing(index, self.plan, self._bindings, self._configs)
        key = tuning.checked_key(binding, shared, self._tiling(index), None)
        tuning.open_cache(self.target.device).put_verdict(key, verdict)

    def _without_kernels(self, found: str, needed: str) -> None:
        """On the library altogether."""
        self._refuse_if_strict(self._name, found)
        log.warning("%s: no kernels: found %s; needed %s", self._name, found, needed)
        self._draws = self._formats = False
        for index, binding in enumerate(self._bindings):
            if not isinstance(binding, str):
                self.use(index, found)
        self._workspace.fell_back(self._name, found, needed)

    def _refuse_if_strict(self, where: str, found: str) -> None:
        if self._workspace.strict:
            raise BackendError(where, found, "its kernel, since strict=True")

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
            " ".join(str(error).split())[:200],
        )

    def _give_up(self, index: int, reason: Exception) -> None:
        """From now on without a kernel that can't be compiled or launched here."""
        from fastgan.engine.triton.program import SAMPLER

        text = failures.first_line(reason)
        if index in self._configs:  # a tuned one: the default may still do
            label = self._configs.pop(index).label
            self._program = None
            self._trusted.clear()
            log.warning("%s: tiling %s is not used: %s", self._name, label, text)
            return
        if index == SAMPLER:
            where = "the latents"
        elif index < len(self._bindings):
            where = " + ".join(self.plan.steps[index].origin)
        else:
            where = "the image format"
        self._refuse_if_strict(f"{self._name}: {where}", f"a kernel that fails here: {text}")
        if index == SAMPLER:
            self._draws = False
        elif index >= len(self._bindings):
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


class WrongResult(Exception):
    """A kernel ran, and what it made is not what the library makes."""


class KnownFault(Exception):
    """What an earlier run has found out about a kernel on this GPU."""
