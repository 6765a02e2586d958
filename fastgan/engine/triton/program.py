"""A plan laid out in memory once: every buffer has its place and every launch its arguments.

What a kernel writes lies in the workspace's one block of memory, where buffers that live at
different times share a place. What a library op writes is wherever that op put it; a kernel that
reads such a tensor is prepared when it runs, which a CUDA graph does but once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fastgan.engine.base import Target
from fastgan.engine.device import Launch
from fastgan.engine.library.executor import BoundStep
from fastgan.engine.triton import counters as triton_counters
from fastgan.engine.triton.binding import Binding, as_four, image_of, room_for
from fastgan.engine.triton.counters import Drawn
from fastgan.engine.triton.layout import Layout
from fastgan.engine.triton.norms import SharedNorms
from fastgan.engine.triton.passes import NormaliseBinding
from fastgan.engine.triton.work import SAMPLER, Place, Work, launching, void
from fastgan.engine.triton.workspace import Workspace
from fastgan.images import pixels
from fastgan.images.format import ImageFormat, as_asked
from fastgan.inputs.draws import Draw
from fastgan.kernels.types import Call, Config
from fastgan.latents.philox import HYPERSPHERE
from fastgan.ops.registry import names
from fastgan.plan import Plan

#: Up to this many elements per sample an input waits in float32 and is converted by the launches
#: themselves: latents. A larger one is converted on its way in, which saves a pass over it.
_SMALL_INPUT = 4096

#: Library ops that may only rename, or take apart, what is already in memory.
_VIEWS = names("strided")


class Program:
    """See above. All methods are to be called within the workspace's turn.

    Args:
        plan: what to run.
        steps: its steps in order, on a kernel or on the library.
        configs: how kernels are tiled, by step; the default where there is none.
        target, workspace: where.
    """

    def __init__(
        self,
        plan: Plan,
        steps: Sequence[Binding | BoundStep],
        configs: Mapping[int, Config],
        target: Target,
        workspace: Workspace,
    ) -> None:
        self.plan, self.steps, self.configs, self.target = plan, steps, configs, target
        self._workspace = workspace
        workspace.frees(self)
        self._slots: dict[str, Tensor] = {}
        self._static: set[str] = set()
        self._staged: dict[str, Tensor] = {}
        self._norms = SharedNorms(plan, steps, configs)
        self.layout = Layout(plan, steps, self._norms, target, workspace)
        #: Of the inputs that wait in float32, the launches that convert them.
        self._converts: dict[str, Launch] = {}
        #: Launches of kernels that were prepared: what there is to compile, as far as is known.
        self.calls: list[Call] = []
        for name in plan.inputs:
            self._place_input(name)
        self._launches = [
            list(self._converts.values()),
            *(self._bind(i) for i in range(len(steps))),
        ]
        self.work: dict[tuple[ImageFormat | None, Drawn], Work] = {}

    # Binding -------------------------------------------------------------------------------------

    def _place_input(self, name: str) -> None:
        shape = self.plan.buffers[name].shape
        buffer = self._slots[name] = self.layout.place(name, shape)
        self._static.add(name)
        if buffer.numel() > _SMALL_INPUT * max(1, shape[0] if shape else 1):
            return
        if not self.plan.buffers[name].dtype.is_floating_point:
            return
        if buffer.dtype == torch.float32 and buffer.is_contiguous():
            # Contiguous for torch, though axes of length 1 may have other strides.
            self._staged[name] = buffer.view(shape)
            return
        staged = torch.empty(shape, dtype=torch.float32, device=self.target.device)
        self._staged[name] = staged
        self._converts[name] = lambda: void(buffer.copy_(staged))

    def _bind(self, index: int) -> list[Launch]:
        """The launches of a step, those that make room after it included."""
        bound = self.steps[index]
        if index in self._norms.applied_by:
            launches = [self._norm(index)]
        elif isinstance(bound, Binding):
            out = self.layout.place(bound.step.outputs[0], bound.shape)
            launches = [self.kernel(index, out)]
            self._slots[bound.step.outputs[0]] = bound.present(out)
            self._static.add(bound.step.outputs[0])
        else:
            launches = self._bind_library(bound)
        dynamic = [n for n in self.plan.steps[index].releases if n not in self._static]

        def release() -> None:
            for name in dynamic:
                self._slots.pop(name, None)

        return [*launches, release] if dynamic else launches

    def _bind_library(self, bound: BoundStep) -> list[Launch]:
        names = bound.step.outputs
        if bound.step.op in _VIEWS and self._static.issuperset(bound.reads):
            source = [self._slots[name] for name in bound.reads]
            made = bound.call(*source)
            made = made if isinstance(made, tuple) else (made,)
            if all(any(same_memory(result, s) for s in source) for result in made):
                self._slots.update(zip(names, made, strict=False))
                self._static.update(names)
                return []

        def launch() -> None:
            result = bound.call(*[self._slots[name] for name in bound.reads])
            results = result if isinstance(result, tuple) else (result,)
            self._slots.update(zip(names, results, strict=False))

        return [launch]

    def kernel(
        self, index: int, out: Tensor, image: ImageFormat | None = None, flag: Tensor | None = None
    ) -> Launch:
        """A step's kernel: prepared now if what it reads has its place, else whenever it runs."""
        bound, config = self.steps[index], self.configs.get(index)
        assert isinstance(bound, Binding)

        def prepare(tensors: list[Tensor], static: bool) -> Launch:
            shared = self._norms.taken(index, static)
            prepared = bound.prepare(tensors, out, config, image, flag, **shared)
            self._norms.statistics[index] = prepared.statistics
            self._note(prepared.calls, static)
            return lambda: void(prepared.run())

        return self._prepared(index, prepare)

    def _note(self, calls: Sequence[Call], static: bool) -> None:
        if static:
            self.calls.extend(calls)

    def _norm(self, index: int) -> Launch:
        """All of a norm but its application, which another step does on the norm's input."""
        bound, config = self.steps[index], self.configs.get(index)
        assert isinstance(bound, NormaliseBinding)
        source, name = bound.reads[0], bound.step.outputs[0]

        def prepare(tensors: list[Tensor], static: bool) -> Launch:
            shared = self._norms.taken(index, static)
            self._norms.normalised[index], calls = bound.unapplied(tensors, config, **shared)
            self._slots[name] = self._slots[source]
            self._note(calls, static)
            if static:
                self._static.add(name)

            def launch() -> None:
                for call in calls:
                    call.run()

            return launch

        return self._prepared(index, prepare)

    def _prepared(self, index: int, prepare: Callable[[list[Tensor], bool], Launch]) -> Launch:
        """A step's launches: prepared now if what it reads has its place, else whenever they run.

        Args:
            index: of the step.
            prepare: from what it reads, and whether that has its place, to the launches.
        """
        bound = self.steps[index]
        assert isinstance(bound, Binding)

        def views() -> list[Tensor]:
            return bound.views([self._slots[name] for name in bound.reads])

        if self._static.issuperset(bound.reads):
            tensors = views()
            sources = [self._slots[name] for name in bound.reads]
            if all(map(same_memory, tensors, sources)):
                with launching(index):
                    run = prepare(tensors, True)

                def launch_prepared() -> None:
                    with launching(index):
                        run()

                return launch_prepared

        def launch() -> None:
            with launching(index):
                prepare(views(), False)()

        return launch

    # Work ----------------------------------------------------------------------------------------

    def work_for(self, image: ImageFormat | None, drawn: Drawn = ()) -> Work:
        """What a run does that ends in these images; None: in all outputs.

        drawn: the inputs that it draws itself, of `drawable`.
        """
        key = (image, drawn)
        if key not in self.work and drawn:
            plain = self.work_for(image)
            pairs = [(-1, self._drawing(name, kind)) for name, kind in drawn]
            left_out = self._not_converted(drawn)
            old = zip(plain.owners, plain.launches, strict=True)
            pairs += [pair for pair in old if pair[1] not in left_out]
            launches, owners = [one for _, one in pairs], [owner for owner, _ in pairs]
            self.work[key] = Work(launches, plain.result, plain.flag, drawn=drawn, owners=owners)
        elif key not in self.work:
            self.work[key] = self._outputs() if image is None else self._images(image)
        return self.work[key]

    def work_at(self, place: Place, drawn: Drawn, formats: bool) -> Work:
        """What a run does that reads and writes there.

        Args:
            drawn: as in `work_for`.
            formats: whether kernels may write image formats.
        """
        if place.program is self and place.work is not None and place.work.drawn == drawn:
            return place.work
        launches = [list(one) for one in self._launches]
        image, out, flag = place.image, place.out, place.flag
        shape = self.plan.buffers[image.name].shape
        if not (formats and place.takes_kernels and len(shape) == 4 and self._floats(image.name)):
            launches.append([lambda: self._store(place)])
        else:
            self._write_images(launches, image, out, flag)
        left_out = self._not_converted(drawn)
        launches[0] = [one for one in launches[0] if one not in left_out]
        moves = [self._moving(name, tensor) for name, tensor in place.given.items()]
        launches[0][:0] = [*moves, *(self._drawing(name, kind) for name, kind in drawn)]
        work = Work.of(launches, out, flag)
        work.drawn, work.moved = drawn, frozenset(place.given)
        place.program, place.work = self, work
        return work

    def _floats(self, name: str) -> bool:
        return self.plan.buffers[name].dtype.is_floating_point

    def _moving(self, name: str, tensor: Tensor) -> Launch:
        staged = self._staged.get(name)
        to = self._slots[name] if staged is None else staged
        return lambda: void(to.copy_(tensor))

    def _store(self, place: Place) -> None:
        made = as_asked(self._slots[place.image.name], place.image)
        pixels.store(made, place.image, place.out)
        if place.flag is not None and made.is_floating_point():
            wrong = (~made.isfinite().all()).to(torch.int32).view(1)
            place.flag.copy_(wrong, non_blocking=True)

    def drawable(self, inputs: Mapping[str, Tensor | Draw]) -> Drawn:
        """The inputs that launches can draw themselves: small ones, not given."""
        return triton_counters.drawn(inputs, self._staged)

    def _is_drawn_in_place(self, name: str, kind: int) -> bool:
        """Whether samples are rounded as they are drawn, so that nothing waits in float32."""
        place = self._slots[name]
        plain = place.is_contiguous() and place.element_size() == 2
        return name in self._converts and plain and kind != HYPERSPHERE

    def _not_converted(self, drawn: Drawn) -> list[Launch]:
        return [self._converts[n] for n, kind in drawn if self._is_drawn_in_place(n, kind)]

    def _drawing(self, name: str, kind: int) -> Launch:
        place = self._staged[name]
        if self._is_drawn_in_place(name, kind):
            place = self._slots[name].view(place.shape)
        draw = self._workspace.counter(name).drawing(kind, place)

        def launch() -> None:
            with launching(SAMPLER):
                draw()

        return launch

    def _outputs(self) -> Work:
        return Work.of(self._launches)

    def _images(self, image: ImageFormat) -> Work:
        """The same with the step that makes the images writing their format, where it can."""
        buffer = self.plan.buffers[image.name]
        if len(buffer.shape) != 4 or not buffer.dtype.is_floating_point:
            return self._outputs()
        device = self.target.device
        out = room_for(as_four(buffer.shape), image, device)
        # fp32 is the model's own precision: what is not finite in it is the model's own result.
        guarded = self.target.dtype != torch.float32
        flag = torch.zeros(1, dtype=torch.int32, device=device) if guarded else None
        launches = [list(one) for one in self._launches]
        self._write_images(launches, image, out, flag)
        if flag is not None:
            launches[0].insert(0, lambda: void(flag.zero_()))
        return Work.of(launches, out, flag)

    def _write_images(
        self, launches: list[list[Launch]], image: ImageFormat, out: Tensor, flag: Tensor | None
    ) -> None:
        """Let the launches write images, by the step that makes them where that can."""
        maker = self._maker(image.name)
        if maker is not None:
            launches[maker + 1][0] = self.kernel(maker, out, image, flag)
            return
        name = image.name

        def convert() -> None:
            with launching(len(self.steps)):
                image_of(self._slots[name], out, image, flag).run()

        launches.append([convert])

    def _maker(self, name: str) -> int | None:
        """The step that can write this output as images, since nobody else reads it."""
        if any(name in bound.step.inputs for bound in self.steps):
            return None
        for index, bound in enumerate(self.steps):
            if name in bound.step.outputs:
                return index if isinstance(bound, Binding) and bound.formats else None
        return None

    # Running -------------------------------------------------------------------------------------

    def load(
        self,
        inputs: Mapping[str, Tensor | Draw],
        drawn: Drawn = (),
        moved: frozenset[str] = frozenset(),
    ) -> None:
        """Put the inputs in their places, converted; set the counters of those to be drawn.

        moved: by name those that the launches put in their places.
        """
        counted = {name for name, _ in drawn}
        for name in self.plan.inputs:
            if name in moved:
                continue
            value, staged = inputs[name], self._staged.get(name)
            if isinstance(value, Draw):
                if name in counted:
                    self._workspace.counter(name).set(triton_counters.next_samples(value))
                    continue
                if staged is not None:
                    value.into(staged)
                    continue
                value = value.tensor(self.target.device)
            (self._slots[name] if staged is None else staged).copy_(value)

    def drew(self, inputs: Mapping[str, Tensor | Draw], drawn: Drawn) -> None:
        """A run that began with `load(inputs, drawn)` went well."""
        for name, _ in drawn:
            draw = inputs[name]
            assert isinstance(draw, Draw)
            samples = triton_counters.next_samples(draw)
            self._workspace.counter(name).drew(samples, draw.shape[0])

    def outputs(self) -> dict[str, Tensor]:
        """The plan's outputs where they lie now: the next run overwrites them."""
        return {name: self._slots[name] for name in self.plan.outputs}

    def first_nonfinite(self) -> str | None:
        """Run step by step on the inputs in place: the origin of the first NaN or Inf, or None."""
        for index, launches in enumerate(self._launches):
            for launch in launches:
                launch()
            step = self.plan.steps[index - 1] if index else None
            for name in step.outputs if step else ():
                tensor = self._slots.get(name)
                if tensor is None or not tensor.is_floating_point():
                    continue
                if not bool(tensor.float().isfinite().all()):  # torch has no isfinite of e4m3
                    assert step is not None
                    return " + ".join(step.origin)
        return None


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether one is a view of the other."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
