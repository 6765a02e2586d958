"""What holds a NaN or Inf."""

from __future__ import annotations

import math

import pytest
import torch

from fastgan.engine.nonfinite import holds_nonfinite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 3, 4, 17, 1000])
def test_one_is_found_anywhere(dtype: torch.dtype, n: int) -> None:
    numbers = torch.randn(n).to(dtype)
    numbers[n // 2] = torch.finfo(dtype).max
    numbers[n // 3] = -torch.finfo(dtype).max
    assert not holds_nonfinite(numbers)
    for wrong in (math.inf, -math.inf, math.nan, -math.nan):
        for at in {0, n // 2, n - 1}:
            poisoned = numbers.clone()
            poisoned[at] = wrong
            assert holds_nonfinite(poisoned)


def test_rows_that_lie_apart() -> None:
    """What is between them is not theirs."""
    numbers = torch.full((4, 6), math.nan)
    numbers[:, 1:3] = 1.0
    assert not holds_nonfinite(numbers[:, 1:3])
    assert holds_nonfinite(numbers[:, 1:4])


def test_whole_numbers_hold_none() -> None:
    assert not holds_nonfinite(torch.tensor([1, -1]))
    assert not holds_nonfinite(torch.zeros(0))
