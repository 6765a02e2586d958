from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastgan.engine.batches import split


@given(n=st.integers(1, 5000), batch=st.one_of(st.none(), st.integers(1, 700)))
def test_split_covers_every_sample_once(n: int, batch: int | None) -> None:
    parts = list(split(n, batch))
    position = 0
    for first, count in parts:
        assert first == position
        assert count >= 1
        position += count
    assert position == n


@given(n=st.integers(1, 5000), batch=st.integers(1, 700))
def test_sizes_are_the_batch_or_powers_of_two(n: int, batch: int) -> None:
    for _, count in split(n, batch):
        assert count == batch or count & (count - 1) == 0


@given(n=st.integers(1, 500), frozen=st.integers(1, 64))
def test_a_frozen_batch_leaves_one_rest(n: int, frozen: int) -> None:
    counts = [count for _, count in split(n, None, frozen)]
    assert sum(counts) == n
    assert all(count == frozen for count in counts[:-1])
