"""The arena: no two buffers that live at the same time overlap, and memory is shared."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.engine.arena import (
    ALIGNMENT,
    Lifetime,
    aligned,
    lifetimes,
    place,
)
from fastgan.plan import Buffer, Plan, Step


@st.composite
def _lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    made = []
    for index in range(draw(st.integers(0, 25))):
        first = draw(st.integers(-1, 20))
        last = first + draw(st.integers(0, 6))
        made.append(Lifetime(f"b{index}", draw(st.integers(1, 5000)), first, last))
    return made


@settings(max_examples=200, deadline=None)
@given(_lifetimes())
def test_no_two_live_buffers_overlap(items: list[Lifetime]) -> None:
    offsets, size = place(items)
    assert set(offsets) == {item.name for item in items}
    for a in items:
        assert offsets[a.name] % ALIGNMENT == 0
        assert offsets[a.name] + a.bytes <= size
        for b in items:
            if a is not b and a.first <= b.last and b.first <= a.last:
                apart = offsets[a.name] + a.bytes <= offsets[b.name]
                assert apart or offsets[b.name] + b.bytes <= offsets[a.name]
    assert size <= sum(aligned(item.bytes) for item in items)


def test_a_chain_needs_its_largest_neighbours_alone() -> None:
    sizes = [4096, 8192, 16384, 8192, 4096, 2048]
    chain = [Lifetime(f"b{i}", size, i - 1, i) for i, size in enumerate(sizes)]
    _, size = place(chain)
    assert size == 16384 + 8192  # of 43,008 in all


def _plan(*steps: Step, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Plan:
    names = {*inputs, *(name for step in steps for name in step.outputs)}
    buffers = {name: Buffer(name, (4,), torch.float32) for name in names}
    return Plan(inputs, outputs, steps, buffers, {})


def test_views_keep_what_they_show() -> None:
    plan = _plan(
        Step("Kernel", ("x",), ("a",), releases=("x",)),
        Step("Reshape", ("a",), ("b",), releases=("a",)),
        Step("Reshape", ("b",), ("c",), releases=("b",)),
        Step("Kernel", ("b",), ("d",)),
        Step("Kernel", ("c", "d"), ("y",), releases=("c", "d")),
        inputs=("x",),
        outputs=("y",),
    )
    sizes = dict.fromkeys(("x", "a", "d", "y"), 16)
    found = {item.name: item for item in lifetimes(plan, sizes, lambda s: s.op == "Reshape")}
    assert (found["x"].first, found["x"].last) == (-1, 0)
    assert (found["a"].first, found["a"].last) == (0, 4)
    assert found["a"].first <= found["d"].first <= found["a"].last
    assert found["y"].last == 5


@pytest.mark.parametrize("alias", [True, False])
def test_an_output_stays_to_the_end(alias: bool) -> None:
    plan = _plan(
        Step("Kernel", ("x",), ("a",), releases=("x",)),
        Step("Identity", ("a",), ("y",)),
        Step("Kernel", ("a",), ("z",), releases=("a",)),
        inputs=("x",),
        outputs=("y", "z"),
    )
    (item,) = lifetimes(plan, {"a": 16}, lambda step: alias and step.op == "Identity")
    assert item.last == (3 if alias else 2)


@settings(max_examples=50, deadline=None)
@given(_lifetimes(), st.sampled_from([64, 256]))
def test_every_buffer_lies_as_low_as_those_placed_before_let_it(
    items: list[Lifetime], alignment: int
) -> None:
    """By size, each at the lowest aligned offset at which it fits between those it lives with."""
    offsets, _ = place(items, alignment)
    before: list[Lifetime] = []
    for item in sorted(items, key=lambda it: (-it.bytes, it.first, it.name)):
        taken = [
            range(offsets[b.name], offsets[b.name] + b.bytes)
            for b in before
            if item.first <= b.last and b.first <= item.last
        ]
        for offset in range(0, offsets[item.name] + alignment, alignment):
            free = all(offset + item.bytes <= t.start or t.stop <= offset for t in taken)
            assert free == (offset == offsets[item.name])
        before.append(item)
