"""The least time that a plan takes on a GPU that need not be there, step by step.

A step takes at least the time of its arithmetic at the GPU's rate, of its memory traffic at its
bandwidth, and of its launches: the roofline model (Williams, Waterman and Patterson, 2009) of each
step by itself. What a step reads and writes goes through memory once; that a small tensor stays in
the cache is left out of account, and so is what a kernel does less than perfectly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from fastgan.measure.published import Gpu
from fastgan.plan import Plan, Step, cost, eight_bits
from fastgan.plan.eight_bits import EightBits

#: From the end of one kernel to the start of the next inside a CUDA graph, in seconds: an
#: assumption, about what an H100 takes.
LAUNCH = 1.3e-6

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
    eight = eight_bits.choose(plan) if precision == "fp8" else eight_bits.EightBits()
    steps = [_step(plan, i, gpu, precision, eight) for i in range(len(plan.steps))]
    compute = sum(step.compute for step in steps)
    needed = sum(_bytes(plan, i, precision, eight, passes=1) for i in range(len(plan.steps)))
    return Floor(steps, max(compute, needed / gpu.bandwidth))


def _step(plan: Plan, index: int, gpu: Gpu, precision: str, eight: EightBits) -> StepFloor:
    step = plan.steps[index]
    launches = _launches(step, plan) + (index in eight.passes)
    product = "fp16" if precision == "fp8" and index not in eight.layers else precision
    rate = gpu.rates[product if step.op in _PRODUCTS else "fp32"]
    # A norm over space reads its input for its statistics, and again to apply them.
    passes = 2 if step.op == "fastgan.Normalise" and launches > 1 else 1
    moved = _bytes(plan, index, precision, eight, passes) if launches else 0
    return StepFloor(
        step,
        compute=step.flops / rate if launches else 0.0,
        memory=moved / gpu.bandwidth,
        launch=launches * LAUNCH,
    )


def _launches(step: Step, plan: Plan) -> int:
    """How often a step starts a kernel; concatenations of channels are written in place."""
    if step.op in cost.FREE:
        return 0
    if step.op == "Concat":
        rank = len(plan.buffers[step.outputs[0]].shape)
        return 0 if rank in (3, 4) and step.attributes["axis"] % rank == 1 else 1
    return 3 if step.op == "fastgan.Normalise" and step.attributes["over"] == "space" else 1


def _bytes(plan: Plan, index: int, precision: str, eight: EightBits, passes: int) -> int:
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
    for name in step.outputs:
        buffer = plan.buffers[name]
        size = _BYTES[precision] if buffer.dtype.is_floating_point else buffer.dtype.itemsize
        total += prod(buffer.shape) * (1 if name in eight.buffers else size)
    return total
