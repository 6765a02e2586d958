"""A plan as native calls, in fp32 or bf16 on a CPU: csrc/runtime. Most often it is a single one.

A library's call costs 20 to 50 microseconds, each with a barrier of threads that spin on the cores
that others need; a plan of a hundred small steps is nothing but that. Here a step costs what it
computes. A step that the native code lacks is torch's, between two calls. In bf16 the factors of
products that sum over channels are rounded to it where that is faster; sums and all else are fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastgan.engine import arena
from fastgan.engine.arena import Lifetime
from fastgan.engine.base import Executable
from fastgan.engine.faults import FAULTS, fault, faults_of
from fastgan.engine.launches import Launches
from fastgan.engine.library.executor import BoundStep, PlanExecutable, nonfinite
from fastgan.engine.native import fields, layers, reductions, sampling
from fastgan.engine.native.lowering import Lowering, Rows, unsupported
from fastgan.engine.native.records import Constants
from fastgan.engine.native.tensors import ALIGNMENT, ARENA, is_dense, new, plain
from fastgan.engine.prepared import Bound, storing
from fastgan.errors import UnsupportedError
from fastgan.host import processor
from fastgan.host.native import _native
from fastgan.images.format import ImageFormat, as_asked
from fastgan.ops.registry import names
from fastgan.plan import Plan, Step
from fastgan.plan.lower import with_releases
from fastgan.plan.merge import merge

#: What `Step.kernel` says of these steps, and the operator of several as one.
KERNEL, OPERATOR = "native", "fastgan.Native"

#: A call of fewer steps between those of the library is not worth it.
_FEWEST = 3

#: So many numbers are looked at in less time than an operator of torch's takes.
_FEW = 64

#: What knows each operator.
_TABLE: dict[str, Callable[[Lowering, Step], None]] = {
    "fastgan.Linear": layers.product,
    "fastgan.Conv": layers.product,
    "fastgan.ConvTranspose": layers.product,
    "fastgan.Normalise": fields.normalise,
    "fastgan.Pointwise": fields.pointwise,
    "MatMul": layers.matrices,
    "Softmax": fields.softmax,
    "Concat": fields.concat,
    "Resize": sampling.resized,
    "Upsample": sampling.resized,
    "Pad": sampling.resized,
    "AveragePool": sampling.resized,
    "MaxPool": sampling.max_pool,
    **dict.fromkeys(reductions.OPERATORS, reductions.reduce),
    "Gather": fields.gather,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), fields.arithmetic),
    **dict.fromkeys(("Tile", "DepthToSpace", "SpaceToDepth", "Trilu"), fields.moved),
    **dict.fromkeys(names("strided"), fields.strided),
}


@dataclass(frozen=True, slots=True)
class Lowered:
    """Steps as records, each tensor in its place.

    Attributes:
        inputs, outputs: the caller's tensors in the order of their slots: names, shapes, strides.
        arena: floats of all others.
        records: the operations (csrc/runtime/records.h).
    """

    inputs: tuple[tuple[str, Tensor], ...]
    outputs: tuple[tuple[str, Tensor], ...]
    arena: int
    records: bytes

    @staticmethod
    def of(low: Lowering, outputs: Sequence[str], rows: Sequence[str] = ()) -> Lowered:
        """Of steps that have been lowered.

        Args:
            low: has lowered them.
            outputs: names of the buffers that others read.
            rows: those of them that are to lie row by row, [N, C, H, W].
        """
        for name in outputs:
            low.read(name)  # an input of the plan may be read as its output alone
        inputs = [(name, low.read(name).meta) for name in low.inputs]
        slots = enumerate(outputs, 1 + len(inputs))
        made = [(name, _output(low, name, slot, name in rows)) for slot, name in slots]
        floats = _placed(low)
        records = b"".join(each.make() for each in low.planned)
        return Lowered(tuple(inputs), tuple(made), floats, records)


def lowered(plan: Plan, opset: int, constants: Constants) -> Lowered:
    """All of a plan as records.

    Args:
        plan: in fp32.
        opset: of its model.
        constants: where its weights go.

    Raises:
        UnsupportedError: there is no native code for a step.
    """
    plan = merge(plan)
    low = Lowering(plan, opset, constants, labels=True)
    for step in plan.steps:
        lower = _TABLE.get(step.op)
        if lower is None:
            raise unsupported(step, f"operator {step.op}")
        low.lower(step, lower)
    return Lowered.of(low, plan.outputs)


class NativeCall:
    """Steps as one call: `call(*inputs)` is a tuple of outputs, each memory of its own.

    The plan's outputs lie as whoever runs it wants them, [N, C, H, W]: a copy of torch's would be
    made by threads that spin for a millisecond afterwards, on the cores that the next call needs.

    Args:
        low: has lowered the steps.
        outputs: names of the buffers that others read.
    """

    def __init__(self, low: Lowering, outputs: Sequence[str]) -> None:
        made = Lowered.of(low, outputs, low.plan.outputs)
        self.inputs, self.outputs = tuple(name for name, _ in made.inputs), tuple(outputs)
        self._reads = [
            (
                torch.contiguous_format if meta.is_contiguous() else torch.channels_last,
                low.tables.get(name),
            )
            for name, meta in made.inputs
        ]
        self._made = [(meta.shape, meta.stride()) for _, meta in made.outputs]
        self._kept = low.constants  # what the operations point to
        self._graph = _native.runtime.Graph(
            records=made.records,
            arena=made.arena,
            tensors=[meta.numel() for _, meta in (*made.inputs, *made.outputs)],
            constants=[(t.data_ptr(), t.numel()) for t in low.constants.tensors],
            threads=torch.get_num_threads(),
        )
        ends = [*low.ends[:-1], len(low.planned)]  # the last step with the outputs' copies
        self._ranges = list(zip([0, *ends], ends, strict=False))
        tiles = [self._graph.minimal(first, last) for first, last in self._ranges]
        #: What runs each step: by Winograd's filtering F(m x m, 3 x 3) where an m is named.
        self.kernels = [f"{KERNEL} F({m}x{m})" if m else KERNEL for m in tiles]

    def __call__(self, *inputs: Tensor, out: Tensor | None = None) -> tuple[Tensor, ...]:
        """The outputs; the first of them in `out`, if it lies as that does."""
        tensors, made, kept = self._tensors(inputs, out)
        self._graph.run(tensors, torch.get_num_threads())
        del kept
        return made

    def bound(self, inputs: Sequence[Tensor], out: Tensor) -> tuple[Callable[[], None], Tensor]:
        """The same on tensors that stay where they are, and its first output.

        out: where that goes, if it lies as that does.
        """
        places, made, kept = self._tensors(inputs, out)
        every = zip(inputs, kept, self._reads, strict=True)
        moved = [(x, y, rows) for x, y, (_, rows) in every if x is not y]
        run, threads = self._graph.run, torch.get_num_threads

        def call(_of_places: object = (kept, made)) -> None:
            for source, place, rows in moved:
                place.copy_(source if rows is None else _within(source, rows))
            run(places, threads())

        return call, made[0]

    def step_by_step(
        self, around: Callable[[int], AbstractContextManager[None]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """The same, with each step inside `around(its index)`."""
        tensors, made, kept = self._tensors(inputs)
        threads = torch.get_num_threads()
        memory = torch.empty(self._graph.floats(threads) + ALIGNMENT)
        address = arena.aligned(memory.data_ptr(), 4 * ALIGNMENT)
        for index, (first, last) in enumerate(self._ranges):
            with around(index):
                self._graph.run_some(address, tensors, first, last, threads)
        del kept
        return made

    def _tensors(
        self, inputs: Sequence[Tensor], out: Tensor | None = None
    ) -> tuple[list[int], tuple[Tensor, ...], list[Tensor]]:
        """The addresses of inputs and outputs, the outputs, and the inputs as they are read."""
        given = []
        for x, (layout, rows) in zip(inputs, self._reads, strict=True):
            read = x if rows is None else _within(x, rows)
            if read.dtype is not torch.float32 or not read.is_contiguous(memory_format=layout):
                read = read.to(torch.float32).contiguous(memory_format=layout)
            given.append(read)
        if out is not None:
            there = (out.shape, out.stride(), out.dtype, out.device.type)
            out = out if there == (*self._made[0], torch.float32, "cpu") else None
        made = tuple(torch.empty_strided(*each) for each in self._made[out is not None :])
        made = made if out is None else (out, *made)
        return [x.data_ptr() for x in (*given, *made)], made, given


def _within(numbers: Tensor, rows: Rows) -> Tensor:
    """Numbers of rows; those below 0 count from the end.

    Raises:
        ArgumentError: there is no such row.
    """
    if numbers.numel() <= _FEW:
        listed = numbers.flatten().tolist()
        least, most = min(listed), max(listed)
    else:
        least, most = map(int, numbers.aminmax())
    with faults_of(rows.origin):
        if least < -rows.count or most >= rows.count:
            wrong = most if most >= rows.count else least
            raise IndexError(f"index {wrong} is out of bounds for a table of {rows.count} rows")
    return torch.where(numbers < 0, numbers + rows.count, numbers) if least < 0 else numbers


class GraphExecutable(Executable):
    """A plan that is one native call.

    Args:
        plan: what to run, its steps' kernels named.
        call: all of it.
        other: makes the executable that names a step which makes a NaN or Inf.
        guarded: whether images are looked at for those.
    """

    plan: Plan
    records = False

    def __init__(
        self,
        plan: Plan,
        call: NativeCall,
        other: Callable[[], Executable],
        guarded: bool = False,
    ) -> None:
        self.plan, self._native, self._other, self._guarded = plan, call, other, guarded
        self._origin = (f"all {len(plan.steps)} steps",)
        self._launches = Launches(self.plan, torch.device("cpu"))

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Executable`."""
        given = [inputs[name] for name in self._native.inputs]
        try:
            if self._launches:
                made = self._native.step_by_step(self._launches.step, *given)
            else:
                made = self._native(*given)
        except FAULTS as error:
            raise fault(self._origin, error) from error
        return dict(zip(self.plan.outputs, made, strict=True))

    def images(
        self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Executable.images`."""
        if self._launches or self.plan.outputs != (image.name,):
            made = self(inputs)[image.name]
        else:
            with faults_of(self._origin):
                made = self._native(*[inputs[name] for name in self._native.inputs], out=out)[0]
        return as_asked(made, image), nonfinite(made) if self._guarded else None

    def bound(self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor) -> Bound:
        """See `Executable.bound`: one native call, and a conversion where it is of another type."""
        watched = super().bound(inputs, image, out)
        if self.plan.outputs != (image.name,):
            return watched
        run, made = self._native.bound([inputs[name] for name in self._native.inputs], out)
        put = None
        if made is not out:
            put = storing(lambda asked, place: (as_asked(made, image), None), image, out)
        origin, looks = self._origin, self._launches
        guarded = self._guarded

        def call() -> Tensor | bool | None:
            if looks:
                return watched()
            try:
                run()
            except FAULTS as error:
                raise fault(origin, error) from error
            found = nonfinite(made) if guarded else None
            if put is not None:
                put()
            return found

        return call

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """See `Executable.first_nonfinite`."""
        return self._other().first_nonfinite(inputs)


class MixedExecutable(PlanExecutable):
    """Native calls with steps of the library between.

    Args:
        plan: its steps are calls and the library's.
        steps: bound in order.
        other: makes the executable that names a step which makes a NaN or Inf.
        guarded: whether images are looked at for those.
    """

    def __init__(
        self,
        plan: Plan,
        steps: Sequence[BoundStep],
        other: Callable[[], Executable],
        guarded: bool = False,
    ) -> None:
        super().__init__(plan, steps, torch.device("cpu"), torch.float32, guarded=guarded)
        self._other = other

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """See `Executable.first_nonfinite`."""
        return self._other().first_nonfinite(inputs)


def runs_here() -> bool:
    """Whether native code is built, and measured on such a CPU beside the libraries there."""
    built = hasattr(_native, "runtime")
    return built and (_native.runtime.path()[0] != "portable" or processor.cap() is not None)


def executable(
    plan: Plan,
    opset: int,
    bind: Callable[[Plan, int], BoundStep],
    other: Callable[[], Executable],
    *,
    bf16: bool = False,
) -> Executable | None:
    """What runs a plan natively as far as that goes, or None where it is not worth it.

    Args:
        plan: in fp32.
        opset: of its model.
        bind: a step of a plan on the library, in fp32.
        other: makes the executable that has all steps on the library.
        bf16: whether products take their factors so.
    """
    if not runs_here():
        return None
    plan = merge(plan)
    parts = _parts(plan, opset, bf16)
    if all(isinstance(part, Step) for part in parts):
        return None
    if len(parts) == 1 and isinstance(parts[0], tuple):
        call = parts[0][1]
        named = zip(plan.steps, call.kernels, strict=True)
        steps = tuple(replace(step, kernel=kernel) for step, kernel in named)
        return GraphExecutable(replace(plan, steps=steps), call, other, bf16)
    calls = {}
    made: list[Step] = []
    for part in parts:
        if isinstance(part, Step):
            made.append(part)
        else:
            calls[len(made)] = part[1]
            made.append(_as_step(*part))
    steps = tuple(with_releases(made, set(plan.outputs), dict(plan.buffers)))
    plan = replace(plan, steps=steps)
    bound = [
        BoundStep(step, calls[i], calls[i].inputs) if i in calls else bind(plan, i)
        for i, step in enumerate(steps)
    ]
    return MixedExecutable(plan, bound, other, bf16)


def _parts(plan: Plan, opset: int, bf16: bool) -> list[Step | tuple[list[Step], NativeCall]]:
    """The steps in order: those of a call together, the library's with the reason why."""
    parts: list[Step | tuple[list[Step], NativeCall]] = []
    low = Lowering(plan, opset, labels=True, bf16=bf16)
    taken: list[Step] = []
    for index, step in enumerate(plan.steps):
        try:
            lower = _TABLE.get(step.op)
            if lower is None:
                raise unsupported(step, f"operator {step.op}")
            low.lower(step, lower)
            taken.append(step)
        except UnsupportedError as error:
            parts += _call(plan, low, taken, index)
            parts.append(replace(step, note=f"no native code for {error.found}"))
            low, taken = Lowering(plan, opset, labels=True, bf16=bf16), []
    return parts + _call(plan, low, taken, len(plan.steps))


def _call(
    plan: Plan, low: Lowering, steps: list[Step], stop: int
) -> list[Step | tuple[list[Step], NativeCall]]:
    """Steps before `stop` as one call, or as they are where they are few."""
    if len(steps) < _FEWEST and len(steps) < len(plan.steps):
        return [replace(step, note="alone among the library's steps") for step in steps]
    read = {name for step in plan.steps[stop:] for name in step.inputs}.union(plan.outputs)
    outputs = [name for step in steps for name in step.outputs if name in read]
    if stop == len(plan.steps):  # in the plan's order, those that are its inputs too
        made = {*outputs, *(plan.inputs if len(steps) == len(plan.steps) else ())}
        outputs = [name for name in plan.outputs if name in made]
    return [(steps, NativeCall(low, outputs))]


def _as_step(steps: list[Step], call: NativeCall) -> Step:
    """A call as a step of a plan."""
    return Step(
        op=OPERATOR,
        inputs=call.inputs,
        outputs=call.outputs,
        origin=tuple(dict.fromkeys(name for step in steps for name in step.origin)),
        flops=sum(step.flops for step in steps),
        bytes=sum(step.bytes for step in steps),
        kernel=KERNEL,
        note=f"{len(steps)} steps",
    )


def _output(low: Lowering, name: str, slot: int, by_rows: bool) -> Tensor:
    """Give an output a tensor of the caller's: as it lies, or else a copy.

    by_rows: it is to lie row by row.
    """
    view = low.read(name)
    root = view.root
    if root.slot != 0 or not view.whole or (by_rows and not view.meta.is_contiguous()):
        made = new(torch.empty_like(view.meta))
        if by_rows or not is_dense(made.meta):
            made = new(plain(view.shape))
        low.copy(view, made)
        view, root = made, made.root
    root.slot = slot
    return plain(view.shape) if by_rows else view.meta  # which names the strides of axes of 1


def _placed(low: Lowering) -> int:
    """Place the roots of the arena; its size, in floats."""
    roots = {view.root: None for each in low.planned for view in each.views}
    named = {f"{index}": root for index, root in enumerate(roots) if root.slot == ARENA}
    lives = (Lifetime(name, 4 * r.size, r.first, r.last) for name, r in named.items())
    offsets, size = arena.place(lives, 4 * ALIGNMENT)
    for name, offset in offsets.items():
        named[name].offset = offset // 4
    return size // 4
