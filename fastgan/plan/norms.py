"""Norms over space and the products around them: what can go together, whatever runs it.

A norm of what a convolution makes needs no pass over the image for its statistics: the convolution
has every value at hand and measures it.
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


def _is_product(step: Step, plan: Plan) -> bool:
    """Whether it is a convolution of one or two axes whose tiles are of the norm's channels."""
    if step.op not in _PRODUCTS or step.attributes.get("group", 1) != 1:
        return False
    return len(plan.buffers[step.outputs[0]].shape) in (3, 4) and "shuffle" not in step.attributes
