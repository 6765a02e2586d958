"""Where buffers lie in one block of memory: those that live at different times share it.

Greedy by size: the largest buffer is placed first, each at the lowest offset where it meets no
buffer that lives at the same time (Pisarchyk and Lee, 2020, "Efficient Memory Management for Deep
Neural Net Inference").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fastgan.plan import Plan, Step

#: Offsets are multiples of this many bytes: what CUDA's own allocator keeps, and whole cache lines.
ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer of `bytes` that is written in step `first` and last read in step `last`."""

    name: str
    bytes: int
    first: int
    last: int


def place(lifetimes: Iterable[Lifetime], alignment: int = ALIGNMENT) -> tuple[dict[str, int], int]:
    """The offset of each buffer by name, and the size of the block, in bytes.

    Args:
        lifetimes: of the buffers.
        alignment: offsets are multiples of so many bytes.
    """
    offsets: dict[str, int] = {}
    size = 0
    # By each step, those placed that live meanwhile: so the time grows with what meets.
    living: dict[int, list[Lifetime]] = defaultdict(list)
    for item in sorted(lifetimes, key=lambda it: (-it.bytes, it.first, it.name)):
        offset, steps = 0, range(item.first, item.last + 1)
        others = {other.name: other for step in steps for other in living[step]}
        for start, other in sorted((offsets[name], other.bytes) for name, other in others.items()):
            if offset + item.bytes <= start:
                break
            offset = max(offset, aligned(start + other, alignment))
        offsets[item.name], size = offset, max(size, offset + item.bytes)
        for step in steps:
            living[step].append(item)
    return offsets, size


def joined(lifetimes: Iterable[Lifetime], roots: Mapping[str, str]) -> list[Lifetime]:
    """The lifetimes with each buffer that lies inside another one (its root) counted there."""
    found = {item.name: item for item in lifetimes}
    for name, root in roots.items():
        inner, outer = found.pop(name), found[root]
        first, last = min(inner.first, outer.first), max(inner.last, outer.last)
        found[root] = Lifetime(root, outer.bytes, first, last)
    return list(found.values())


def aligned(offset: int, alignment: int = ALIGNMENT) -> int:
    """The first multiple of the alignment from `offset` on."""
    return -(-offset // alignment) * alignment


def lifetimes(
    plan: Plan, sizes: Mapping[str, int], may_alias: Callable[[Step], bool]
) -> list[Lifetime]:
    """From when to when each buffer of `sizes` (bytes by name) is needed.

    Plan inputs live from before the first step (-1) on, outputs to behind the last.

    Args:
        plan: its steps say after which of them a buffer is read no more.
        sizes: the buffers to place.
        may_alias: whether a step's outputs may be views of its inputs, which then have to stay for
            as long as those are read.
    """
    end = len(plan.steps)
    first = dict.fromkeys(plan.inputs, -1)
    last = dict.fromkeys(plan.outputs, end)
    for index, step in enumerate(plan.steps):
        for name in step.outputs:
            first[name] = index
        for name in step.releases:
            last.setdefault(name, index)
    for step in reversed(plan.steps):
        if may_alias(step):
            reach = max(last.get(name, end) for name in step.outputs)
            for name in step.inputs:
                if name in plan.buffers:
                    last[name] = max(last.get(name, end), reach)
    return [Lifetime(name, size, first[name], last.get(name, end)) for name, size in sizes.items()]
