"""The least time that a plan takes on a GPU that need not be there, step by step.

A step takes at least the time of its arithmetic at the GPU's rate, of its memory traffic at its
bandwidth, and of its launches: the roofline model (Williams, Waterman and Patterson, 2009) of each
step by itself. What a step reads and writes goes through memory once; that a small tensor stays in
the cache is left out of account, and so is what a kernel does less than perfectly.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import prod

from fastgan.kernels.prologue_cost import pays
from fastgan.measure.published import Gpu
from fastgan.plan import Plan, Step, cost, eight_bits, norms
from fastgan.plan.eight_bits import EightBits

#: From the end of one kernel to the start of the next inside a CUDA graph, in seconds: an
#: assumption, about what an H100 takes.
LAUNCH = 1.3e-6

#: Columns of a convolution's tile, where the rule asks.
_COLUMNS = 128

_PRODUCTS = {"fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose"}
_PRODUCTS |= {"Gemm", "MatMul", "Conv", "ConvTranspose"}
_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 2}


@dataclass(frozen=True, slots=True)
class StepFloor:
    """Seconds of a step by what they go to; it takes the most of them."""

    step: Step
    compute: float
    memory: float
    launch: float

    @property
    def seconds(self) -> float:
        """The least that it takes."""
        return max(self.compute, self.memory, self.launch)

    @property
    def bound(self) -> str:
        """What it waits for: "compute", "memory" or "launch"; "" where it takes no time."""
        if not self.seconds:
            return ""
        return max(("compute", "memory", "launch"), key=lambda name: float(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Floor:
    """A plan's steps, and what its whole network takes at the least.

    Attributes:
        steps: in order.
        roofline: seconds of all arithmetic, or of all traffic that the steps need, whichever is
            more: as if every step overlapped with every other, without launches.
    """

    steps: Sequence[StepFloor]
    roofline: float

    @property
    def seconds(self) -> float:
        """The least that a run takes, one step after the other."""
        return sum(step.seconds for step in self.steps)

    @property
    def share(self) -> float:
        """How much of the roofline a run reaches whose every step reaches its own."""
        return self.roofline / self.seconds if self.seconds else 1.0


def floor(plan: Plan, gpu: Gpu, precision: str) -> Floor:
    """The floor of a plan on a GPU.

    Args:
        plan: for one batch; `plan.pointwise.merge` makes of it what a GPU runs.
        gpu: one that has the precision.
        precision: a key of `gpu.rates`. "fp8" is fp16 but for the large layers, as
            `plan.eight_bits` chooses them, and what is stored for them.
    """
    eight = eight_bits.choose(plan) if precision == "fp8" else EightBits()
    shared = _Shared(norms.measured_by(plan).keys(), _applied(plan, eight))
    steps = [_step(plan, i, gpu, precision, shared, eight) for i in range(len(plan.steps))]
    compute = sum(step.compute for step in steps)
    needed = sum(
        _bytes(plan, index, precision, eight, *shared.passes(index, most=1))
        for index in range(len(plan.steps))
    )
    return Floor(steps, max(compute, needed / gpu.bandwidth))


@dataclass(frozen=True, slots=True)
class _Shared:
    """The norms, by their index, that the convolutions before and behind them measure and apply."""

    measured: Set[int]
    applied: Set[int]

    def passes(self, index: int, most: int) -> tuple[int, bool]:
        """How often a step reads its first input, and whether it writes its result.

        most: how often a norm reads its input that does everything itself: for its statistics, and
            to be applied.
        """
        spared = (index in self.measured) + (index in self.applied)
        return min(most, 2 - spared), index not in self.applied


def _applied(plan: Plan, eight: EightBits) -> set[int]:
    """The norms that a convolution applies, by the rule, in tiles of so many columns.

    None of them reads in 8 bits: what makes that has to round it.
    """
    found = set()
    for norm, reader in norms.applied_by(plan).items():
        step = plan.steps[reader]
        if step.inputs[1] not in plan.weights or reader in eight.layers:
            continue
        c_out, _, *kernel = plan.weights[step.inputs[1]].shape
        out_pixels = prod(plan.buffers[step.outputs[0]].shape[2:])
        in_pixels = prod(plan.buffers[step.inputs[0]].shape[2:])
        if pays(prod(kernel), -(-c_out // _COLUMNS), out_pixels, in_pixels):
            found.add(norm)
    return found


def _step(
    plan: Plan, index: int, gpu: Gpu, precision: str, shared: _Shared, eight: EightBits
) -> StepFloor:
    step = plan.steps[index]
    launches = _launches(step, plan) - (index in shared.measured) - (index in shared.applied)
    launches += index in eight.passes
    product = "fp16" if precision == "fp8" and index not in eight.layers else precision
    rate = gpu.rates[product if _multiplies(plan, step) else "fp32"]
    passes = shared.passes(index, most=2 if _launches(step, plan) > 1 else 1)
    moved = _bytes(plan, index, precision, eight, *passes) if launches else 0
    return StepFloor(
        step,
        compute=step.flops / rate if launches and passes[1] else 0.0,
        memory=moved / gpu.bandwidth,
        launch=launches * LAUNCH,
    )


def _multiplies(plan: Plan, step: Step) -> bool:
    """Whether a step is a matrix product, for the tensor cores; a depthwise convolution is not."""
    if step.op not in _PRODUCTS:
        return False
    weight = (plan.weights if step.inputs[1] in plan.weights else plan.buffers)[step.inputs[1]]
    return not cost.is_depthwise(step.op, tuple(weight.shape), step.attributes.get("group", 1))


def _launches(step: Step, plan: Plan) -> int:
    """How often a step starts a kernel; concatenations of channels are written in place."""
    if step.op in cost.FREE:
        return 0
    if step.op == "Concat":
        rank = len(plan.buffers[step.outputs[0]].shape)
        return 0 if rank in (3, 4) and step.attributes["axis"] % rank == 1 else 1
    return 3 if step.op == "fastgan.Normalise" and step.attributes["over"] == "space" else 1


def _bytes(
    plan: Plan, index: int, precision: str, eight: EightBits, passes: int, writes: bool
) -> int:
    """What a step moves if its first input is read `passes` times and all else once."""
    step = plan.steps[index]
    if _launches(step, plan) == 0:
        return 0
    total = 0
    for position, name in enumerate(step.inputs):
        if not name:
            continue
        found = plan.buffers.get(name)
        shape = plan.weights[name].shape if found is None else found.shape
        dtype = plan.weights[name].dtype if found is None else found.dtype
        size = _BYTES[precision] if dtype.is_floating_point else dtype.itemsize
        if name in eight.buffers or (position == 1 and index in eight.layers):
            size = 1
        if position == 0 and index in eight.passes:
            size += 2  # rounded by a pass: written and read in 8 bits
        total += prod(shape) * size * (passes if position == 0 else 1)
    for name in step.outputs if writes else ():
        buffer = plan.buffers[name]
        size = _BYTES[precision] if buffer.dtype.is_floating_point else buffer.dtype.itemsize
        total += prod(buffer.shape) * (1 if name in eight.buffers else size)
    return total
