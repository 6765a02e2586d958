"""A plan as native calls, in fp32 or bf16 on a CPU: csrc/runtime. Most often it is a single one.

A library's call costs 20 to 50 microseconds, each with a barrier of threads that spin on the cores
that others need; a plan of a hundred small steps is nothing but that. Here a step costs what it
computes. A step that the native code lacks is torch's, between two calls. In bf16 the factors of
products that sum over channels are rounded to it where that is faster; sums and all else are fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fastgan.engine.base import Executable
from fastgan.engine.faults import FAULTS, fault, faults_of
from fastgan.engine.launches import Launches
from fastgan.engine.library.executor import BoundStep, PlanExecutable
from fastgan.engine.native import (
    attention,
    fields,
    layers,
    matrices,
    recurrent,
    reductions,
    sampling,
)
from fastgan.engine.native.call import KERNEL, Lowered, NativeCall, Packed
from fastgan.engine.native.lowering import Lowering, unsupported
from fastgan.engine.native.packing import Shared
from fastgan.engine.native.records import Constants
from fastgan.engine.nonfinite import holds_nonfinite
from fastgan.engine.prepared import Bound, storing
from fastgan.errors import UnsupportedError
from fastgan.host import processor
from fastgan.host.native import _native
from fastgan.images.format import ImageFormat, as_asked
from fastgan.ops.registry import names
from fastgan.plan import Plan, Step
from fastgan.plan.lower import with_releases
from fastgan.plan.merge import merge

#: The operator of several steps as one.
OPERATOR = "fastgan.Native"

#: A call of fewer steps between those of the library is not worth it.
_FEWEST = 3

#: Of elementwise steps that are merged: as many axes as csrc/runtime takes.
_RANKS = range(9)

#: What knows each operator.
_TABLE: dict[str, Callable[[Lowering, Step], None]] = {
    "fastgan.Linear": layers.product,
    "fastgan.Conv": layers.product,
    "fastgan.ConvTranspose": layers.product,
    "fastgan.Normalise": fields.normalise,
    "fastgan.Pointwise": fields.pointwise,
    "MatMul": matrices.product,
    "Einsum": matrices.einsum,
    "Softmax": fields.softmax,
    attention.OPERATOR: attention.attention,
    "Concat": fields.concat,
    "Resize": sampling.resized,
    "Upsample": sampling.resized,
    "Pad": sampling.resized,
    "AveragePool": sampling.resized,
    "MaxPool": sampling.max_pool,
    **dict.fromkeys(reductions.OPERATORS, reductions.reduce),
    "Gather": fields.gather,
    "Cast": fields.cast,
    "ScatterND": fields.scattered,
    **dict.fromkeys(("RNN", "GRU", "LSTM"), recurrent.layer),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), fields.arithmetic),
    **dict.fromkeys(("Tile", "DepthToSpace", "SpaceToDepth", "Trilu"), fields.moved),
    **dict.fromkeys(names("strided"), fields.strided),
}


def lowered(plan: Plan, opset: int, constants: Constants) -> Lowered:
    """All of a plan as records.

    Args:
        plan: in fp32.
        opset: of its model.
        constants: where its weights go.

    Raises:
        UnsupportedError: there is no native code for a step.
    """
    plan = attention.join(merge(plan, _RANKS), opset)
    low = Lowering(plan, opset, constants, labels=True)
    for step in plan.steps:
        lower = _TABLE.get(step.op)
        if lower is None:
            raise unsupported(step, f"operator {step.op}")
        low.lower(step, lower)
    return Lowered.of(low, plan.outputs)


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
        found = torch.tensor(holds_nonfinite(made)) if self._guarded else None
        return as_asked(made, image), found

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
            found = holds_nonfinite(made) if guarded else None
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
    shared: Shared | None = None,
) -> Executable | None:
    """What runs a plan natively as far as that goes, or None where it is not worth it.

    Args:
        plan: in fp32.
        opset: of its model.
        bind: a step of a plan on the library, in fp32.
        other: makes the executable that has all steps on the library.
        bf16: whether products take their factors so.
        shared: the packed weights of the model.
    """
    if not runs_here():
        return None
    plan = attention.join(merge(plan, _RANKS), opset)
    parts = _parts(plan, opset, bf16, Shared() if shared is None else shared)
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


def _parts(
    plan: Plan, opset: int, bf16: bool, shared: Shared
) -> list[Step | tuple[list[Step], NativeCall]]:
    """The steps in order: those of a call together, the library's with the reason why."""
    parts: list[Step | tuple[list[Step], NativeCall]] = []
    low = Lowering(plan, opset, Packed(shared), labels=True, bf16=bf16)
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
            low, taken = Lowering(plan, opset, Packed(shared), labels=True, bf16=bf16), []
    return parts + _call(plan, low, taken, len(plan.steps))


def _call(
    plan: Plan, low: Lowering, steps: list[Step], stop: int
) -> list[Step | tuple[list[Step], NativeCall]]:
    """Steps before `stop` as one call, or as they are where they are few."""
    alone = all(step.op != attention.OPERATOR for step in steps)  # the library has none
    if alone and len(steps) < _FEWEST and len(steps) < len(plan.steps):
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
