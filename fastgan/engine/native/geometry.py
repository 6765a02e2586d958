"""Convolutions as csrc/direct.h takes them: phases of pixels that share taps, and patches.

Along one axis, output o of a convolution reads input `stride * o - pad + dilation * k` through tap
k of its kernel; what one of a transposed one reads, `kernels/phases.py` says. Both repeat: with o
one period further the same taps read inputs one advance further, where (period, advance) is
(1, stride) or (stride, 1). So the outputs of an axis fall into phases, one for each place in the
period; or, taken in patches of one or more periods, into a single one.

Where a convolution reads its input enlarged, each input doubled, taps that meet the same input
become one tap, their sum: of a kernel of three, two are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastgan.kernels import phases as phases_of


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a convolution.

    Attributes:
        transposed: whether it is a transposed one.
        inputs, outputs: sizes; outputs beyond the last tap read nothing.
        kernel, stride, pad, dilation: pad is that before the first input.
        repeats: how often a convolution (no transposed one) reads each input.
    """

    transposed: bool
    inputs: int
    outputs: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    repeats: int = 1

    @property
    def period(self) -> int:
        """After how many outputs the taps repeat."""
        return self.stride if self.transposed else self.repeats // self._shared

    @property
    def advance(self) -> int:
        """How many inputs further they then read."""
        return 1 if self.transposed else self.stride // self._shared

    @property
    def _shared(self) -> int:
        return math.gcd(self.stride, self.repeats)

    def taps(self, output: int) -> dict[int, int]:
        """Input by tap, for one output; inputs may lie beyond the edges."""
        if not self.transposed:
            first = self.stride * output - self.pad
            return {k: (first + self.dilation * k) // self.repeats for k in range(self.kernel)}
        return phases_of.taps(output, self.kernel, self.stride, self.pad, self.dilation)


@dataclass(frozen=True, slots=True)
class AxisPhase:
    """Patches of outputs that read the same taps, one after another.

    Attributes:
        count: how many patches.
        output, output_step: where the first begins (it may be before 0), and the next.
        input_step: how many inputs further the next patch reads.
        reads: for each input that the first patch reads, the taps of each of its outputs: most
            often one or none.
    """

    count: int
    output: int
    output_step: int
    input_step: int
    reads: dict[int, tuple[tuple[int, ...], ...]]


def phases(axis: Axis) -> list[AxisPhase]:
    """The outputs one by one: a phase for each place in the period."""
    return [_phase(axis, first, 1, 1) for first in range(min(axis.period, axis.outputs))]


def patches(axis: Axis, periods: int) -> AxisPhase:
    """The outputs in patches of so many periods, laid so that fewest inputs are read."""
    size = periods * axis.period
    starts = [-start for start in range(min(size, axis.period))]
    made = [_phase(axis, start, size, periods) for start in starts]
    return min(made, key=lambda phase: len(phase.reads) * phase.count)


def _phase(axis: Axis, first: int, size: int, periods: int) -> AxisPhase:
    step = periods * axis.period
    reads: dict[int, list[tuple[int, ...]]] = {}
    for place in range(size):
        for tap, at in axis.taps(first + place).items():
            reads.setdefault(at, [()] * size)[place] += (tap,)
    return AxisPhase(
        count=-(-(axis.outputs - first) // step),
        output=first,
        output_step=step,
        input_step=periods * axis.advance,
        reads={at: tuple(taps) for at, taps in sorted(reads.items())},
    )
