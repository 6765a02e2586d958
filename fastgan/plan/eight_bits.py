"""Which layers of a plan multiply in 8 bits (e4m3) where precision="fp8" is asked for.

One rule, the same for every batch size: a convolution or transposed convolution
- of one group, whose samples are not modulated,
- with at least 128 input channels, a multiple of 64, and at least 64 output channels,
- whose output is not the plan's (so never the layer that makes the image),
- whose input is stored in 8 bits, or that has at least 4,096 FLOPs for each element of its input:
  then it is worth a pass of its own that rounds it.
A buffer is stored in 8 bits where the step that makes it can round it as it writes it, and all who
read it are such layers. Everything else is fp16: a residual stream, which others read as well,
keeps its 11 bits.

What a pass costs: 3 bytes of traffic for each element. What it saves: half of the product's time.
By the published figures of `measure.published` both are equal at 1,000 (RTX 4090) to 2,400 (L4)
FLOPs for each element, at 1,800 on an H100 and 1,200 on an H200; a 3x3 convolution to 256 channels
has 4,608. That is reasoned, not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from fastgan.plan.types import Plan, Step

#: Fewer channels leave a product waiting for memory, and the rounding fewer terms to average over.
LEAST_IN, LEAST_OUT, MULTIPLE_IN = 128, 64, 64
#: FLOPs for each element of an input that make it worth a pass.
WORTH_A_PASS = 4096

_CONVOLUTIONS = ("fastgan.Conv", "fastgan.ConvTranspose")
#: What makes images and rounds them as it writes, on a kernel.
_WRITERS = (*_CONVOLUTIONS, "fastgan.Linear", "fastgan.Normalise", "fastgan.Pointwise")


@dataclass(frozen=True, slots=True)
class EightBits:
    """A choice.

    Attributes:
        layers: the steps, by number, that multiply in 8 bits.
        buffers: the names of what is stored in 8 bits, for these layers alone.
        passes: the layers whose input is stored in 16 bits, and rounded by a pass before them.
    """

    layers: frozenset[int] = frozenset()
    buffers: frozenset[str] = frozenset()
    passes: frozenset[int] = frozenset()


def choose(
    plan: Plan,
    on_kernel: Callable[[int], bool] = lambda index: True,
    without: frozenset[str] = frozenset(),
) -> EightBits:
    """The layers and buffers of a plan.

    Args:
        plan: what `plan.pointwise.merge` makes, as a GPU runs it.
        on_kernel: whether a step, by its number, runs on a kernel of fastgan's own.
        without: buffers that can't be stored in 8 bits for another reason.
    """
    able = {i for i, step in enumerate(plan.steps) if is_large(step, plan) and on_kernel(i)}
    makers = {name: i for i, step in enumerate(plan.steps) for name in step.outputs}
    buffers = set()
    for name in {plan.steps[i].inputs[0] for i in able}:
        maker = makers.get(name)
        if maker is None or name in {*plan.outputs, *without} or not on_kernel(maker):
            continue
        step = plan.steps[maker]
        writes = step.op in _WRITERS and len(plan.buffers[name].shape) == 4
        if writes and all(_reads_it_alone(plan, i, name, able) for i in range(len(plan.steps))):
            buffers.add(name)
    source = {i: plan.steps[i].inputs[0] for i in able}
    layers = frozenset(i for i in able if source[i] in buffers)
    passes = frozenset(
        i
        for i in able - layers
        if source[i] not in without
        and plan.steps[i].flops >= WORTH_A_PASS * prod(plan.buffers[source[i]].shape)
    )
    return EightBits(layers | passes, frozenset(buffers), passes)


def is_large(step: Step, plan: Plan) -> bool:
    """Whether a step is such a layer, wherever its input lies."""
    if step.op not in _CONVOLUTIONS or step.attributes["group"] != 1:
        return False
    if any(step.inputs[4:6]) or step.outputs[0] in plan.outputs:
        return False
    weight, x = plan.weights.get(step.inputs[1]), plan.buffers.get(step.inputs[0])
    if weight is None or x is None or len(x.shape) != 4:
        return False
    first, second = weight.shape[:2]
    c_out, c_in = (first, second) if step.op == "fastgan.Conv" else (second, first)
    return bool(c_in >= LEAST_IN and c_in % MULTIPLE_IN == 0 and c_out >= LEAST_OUT)


def _reads_it_alone(plan: Plan, index: int, name: str, able: set[int]) -> bool:
    """Whether a step reads a buffer as nothing but the first factor of a product, or not at all."""
    step = plan.steps[index]
    if name not in step.inputs:
        return True
    return index in able and name not in step.inputs[1:]
