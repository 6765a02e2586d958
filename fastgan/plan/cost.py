"""FLOPs and bytes of a step, from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from fastgan.ops.registry import names
from fastgan.plan.types import Buffer

#: Ops that only rename what is already in memory.
FREE = names("view")

#: A transposed convolution's result by what its pads leave of it.
_MOST_CROPPED = 16
_POOLS = {"AveragePool", "MaxPool", "LpPool"}
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


def workspace(
    op: str, attributes: Mapping[str, Any], weight: Sequence[int] | None, x: Buffer, y: Buffer
) -> int:
    """Bytes that a step's reference makes on its way beside its output: an input that is padded
    first, since torch pads both sides alike, or a whole result that is cropped later.

    Args:
        op: the operator with its domain.
        attributes: of the operator.
        weight: the shape of its second input, if it has one.
        x, y: its first input and output.
    """
    size = x.shape[2:]
    rank = len(size)
    pads = attributes.get("pads") or [0] * 2 * rank
    if len(pads) != 2 * rank or not rank:
        return 0
    begins, ends = pads[:rank], pads[rank:]
    uneven = list(begins) != list(ends)
    if (op in ("fastgan.Conv", "Conv") and uneven) or (op in _POOLS and any(pads)):
        sides = [sum(parts) for parts in zip(size, begins, ends, strict=True)]
        return prod((*x.shape[:2], *sides)) * x.dtype.itemsize
    if op not in ("fastgan.ConvTranspose", "ConvTranspose") or not weight:
        return 0
    steps = attributes.get("strides") or [1] * rank
    spread = attributes.get("dilations") or [1] * rank
    extra = attributes.get("output_padding") or [0] * rank
    taps, channels = weight[2:], weight[1] * attributes.get("group", 1)
    axes = list(zip(size, taps, steps, spread, strict=True))
    sides = [step * (n - 1) + d * (k - 1) + 1 for n, k, step, d in axes]
    whole = prod((x.shape[0], channels, *sides))
    cropped = any(more >= max(step, d) for more, (*_, step, d) in zip(extra, axes, strict=True))
    # Most of a result cropped away is no network's doing; what a library does then is its own.
    if uneven or cropped or whole > _MOST_CROPPED * prod(y.shape):
        return whole * x.dtype.itemsize
    return 0


def is_depthwise(op: str, weight: tuple[int, ...], group: int) -> bool:
    """Whether a convolution filters each channel by itself: that is no matrix product.

    Args:
        op: the operator with its domain.
        weight: the shape of its weight.
        group: its groups.
    """
    return op in _CONVOLUTIONS and group > 1 and tuple(weight[:2]) == (group, 1)
