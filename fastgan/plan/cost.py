"""FLOPs and bytes of a step, from shapes alone."""

from __future__ import annotations

from math import prod

from fastgan.plan.types import Buffer, Plan

#: Ops that only rename what is already in memory.
FREE = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}

_CONVOLUTIONS = {"fastgan.Conv", "Conv", "fastgan.ConvTranspose", "ConvTranspose"}


def flops(op: str, weight: tuple[int, ...] | None, inputs: list[Buffer], output: Buffer) -> int:
    """Floating-point operations of one step, a multiply and an add counting as two.

    Args:
        op: the operator with its domain.
        weight: shape of the second input where that is a weight or a matrix, else None.
        inputs: the buffers that it reads.
        output: its first output.
    """
    if op in ("fastgan.Conv", "Conv") and weight:
        return 2 * prod(output.shape) * prod(weight[1:])
    if op in ("fastgan.ConvTranspose", "ConvTranspose") and weight:
        # Every input element meets every tap of its group once.
        return 2 * prod(inputs[0].shape) * prod(weight[1:])
    if op in ("fastgan.Linear", "Gemm", "MatMul") and weight:
        return 2 * prod(inputs[0].shape) * weight[-1]
    return 0 if op in FREE else prod(output.shape)


def is_depthwise(op: str, weight: tuple[int, ...], group: int) -> bool:
    """Whether a convolution filters each channel by itself: that is no matrix product.

    Args:
        op: the operator with its domain.
        weight: the shape of its weight.
        group: its groups.
    """
    return op in _CONVOLUTIONS and group > 1 and tuple(weight[:2]) == (group, 1)


def activation_bytes(plan: Plan) -> int:
    """The most bytes that a plan's buffers take at any time, in the types that it was made in."""
    live = sum(plan.buffers[name].bytes for name in plan.inputs)
    most = live
    for step in plan.steps:
        live += sum(plan.buffers[name].bytes for name in step.outputs if name in plan.buffers)
        most = max(most, live)
        live -= sum(plan.buffers[name].bytes for name in step.releases)
    return most
