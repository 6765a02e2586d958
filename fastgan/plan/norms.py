"""Norms over space and the products around them: what can go together, whatever runs it.

A norm of what a convolution makes needs no pass over the image for its statistics: the convolution
has every value at hand and measures it. A norm that one convolution alone reads needs no pass of
its own at all, if that convolution applies it as it reads the image.
"""

from __future__ import annotations

from fastgan.plan.types import Plan, Step

_PRODUCTS = {"fastgan.Conv", "fastgan.ConvTranspose"}


def is_over_space(step: Step) -> bool:
    """Whether it is a norm of each sample and group of channels, with a mean."""
    a = step.attributes
    return step.op == "fastgan.Normalise" and a["over"] == "space" and bool(a["centre"])


def measured_by(plan: Plan) -> dict[int, int]:
    """Of each norm over space of a convolution's result (by its index) that convolution."""
    makers = {step.outputs[0]: i for i, step in enumerate(plan.steps) if _is_product(step, plan)}
    return {
        index: makers[step.inputs[0]]
        for index, step in enumerate(plan.steps)
        if is_over_space(step) and step.inputs[0] in makers
    }


def applied_by(plan: Plan) -> dict[int, int]:
    """Of each norm over space that one convolution alone reads (by its index) that convolution."""
    readers: dict[str, list[int]] = {}
    for index, step in enumerate(plan.steps):
        for name in step.inputs:
            readers.setdefault(name, []).append(index)
    found = {}
    for index, step in enumerate(plan.steps):
        name = step.outputs[0]
        read = readers.get(name, [])
        if not is_over_space(step) or len(read) != 1 or name in plan.outputs:
            continue
        reader = plan.steps[read[0]]
        convolves = reader.op == "fastgan.Conv" and reader.attributes.get("group", 1) == 1
        if convolves and reader.inputs[0] == name and not step.epilogue.residual:
            found[index] = read[0]
    return found


def _is_product(step: Step, plan: Plan) -> bool:
    """Whether it is a convolution of one or two axes whose tiles are of the norm's channels."""
    if step.op not in _PRODUCTS or step.attributes.get("group", 1) != 1:
        return False
    return len(plan.buffers[step.outputs[0]].shape) in (3, 4) and "shuffle" not in step.attributes
