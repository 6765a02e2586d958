"""Concatenations along the channels that are there without a copy.

With channels last, each part of a Concat is some of the channels of its result. So the kernels that
make the parts write them there at once, and a Concat of parts that already lie side by side (each
of a dense block's is the beginning of the next one's) is there as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastgan.engine.triton.binding import Binding, Shape4
from fastgan.engine.triton.passes import ConcatBinding
from fastgan.plan import Plan, Step


@dataclass(frozen=True, slots=True)
class Home:
    """Where a buffer lies: from channel `channel` on in buffer `root`, of this shape as images."""

    root: str
    channel: int
    shape: Shape4


def homes(plan: Plan, steps: Sequence[object]) -> dict[str, Home]:
    """The buffers that lie inside another one.

    Args:
        plan: for its outputs, which lie by themselves.
        steps: its steps in order; those that are no Binding write wherever they like.
    """
    made = {s.step.outputs[0]: s for s in steps if isinstance(s, Binding)}
    found: dict[str, Home] = {}
    # The last one first: what reads a concatenation and makes a longer one decides for both.
    for step in reversed(steps):
        if not isinstance(step, ConcatBinding):
            continue
        name, channel, start = step.step.outputs[0], 0, 0
        starts = []
        for part, shape in zip(step.reads, step.read_shapes, strict=True):
            starts.append((part, start))
            start += shape[1]
        if name not in found and name not in plan.outputs:
            within = _side_by_side(starts, found)
            if within is not None:
                found[name] = within
        home = found.get(name)
        root, shape4 = (home.root, home.shape) if home is not None else (name, step.shape)
        channel = home.channel if home is not None else 0
        for part, start in starts:
            maker = made.get(part)
            if maker is None or not maker.pitched or part in plan.outputs or part in found:
                continue
            if part != root:
                found[part] = Home(root, channel + start, shape4)
    return found


def _side_by_side(starts: list[tuple[str, int]], found: dict[str, Home]) -> Home | None:
    """Where all parts already lie in order inside one buffer, or None."""
    first = found.get(starts[0][0])
    if first is None:
        return None
    for part, start in starts:
        if found.get(part) != replace(first, channel=first.channel + start):
            return None
    return first


def annotated(steps: list[Step], bindings: Sequence[object], plan: Plan) -> list[Step]:
    """The steps, each Concat told whether it copies."""
    lies = homes(plan, bindings)
    for index, binding in enumerate(bindings):
        if not isinstance(binding, ConcatBinding):
            continue
        name, start = binding.step.outputs[0], 0
        own = lies.get(name, Home(name, 0, binding.shape))
        copied = []
        for part, shape in zip(binding.reads, binding.read_shapes, strict=True):
            if lies.get(part) != replace(own, channel=own.channel + start):
                copied.append(part)
            start += shape[1]
        if not copied:
            steps[index] = replace(steps[index], kernel="in place", note="", bytes=0, flops=0)
        else:
            note = f"copies {len(copied)} of {len(binding.reads)} parts"
            steps[index] = replace(steps[index], note=note)
    return steps
