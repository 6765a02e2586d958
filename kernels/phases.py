"""The phases of a transposed convolution, along one axis: outputs a stride apart share their taps.

Output o, counted from before the padding as f = o + pad, meets the taps k with dilation * k = f mod
stride, + stride, + 2 stride, ..., each on the input (f - dilation * k) / stride. One period further
the same taps read one input further. So each phase is a small dense convolution of the input,
without the zeros that the textbook definition inserts.
"""

from __future__ import annotations

from dataclasses import dataclass


def taps(output: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> dict[int, int]:
    """The input by tap for one output, the first tap first; inputs may lie beyond the edges."""
    reach = {k: output + pad - dilation * k for k in range(kernel)}
    return {k: place // stride for k, place in reach.items() if place % stride == 0}


@dataclass(frozen=True)
class Phase:
    """One phase of an axis, of dilation 1.

    `count` taps, a stride apart from `first` on; for output q of the phase they read the inputs
    q + base, q + base - 1, and so on.
    """

    first: int
    base: int
    count: int


def phases(kernel: int, stride: int, pad: int) -> list[Phase]:
    """The phases of an axis, by their first output."""
    found = []
    for phase in range(stride):
        base, first = divmod(phase + pad, stride)
        found.append(Phase(first, base, len(taps(phase, kernel, stride, pad))))
    return found


def output_size(size: int, kernel: int, stride: int, pads: int, extra: int) -> int:
    """Outputs for so many inputs; pads of both sides together, extra is the output padding."""
    return (size - 1) * stride + kernel - pads + extra
