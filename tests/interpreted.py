"""Tests of Triton's kernels that its interpreter runs, in place of a GPU."""

from __future__ import annotations

import pytest
import torch

INTERPRETED = pytest.mark.skipif(
    torch.cuda.is_available(), reason="kernels are compiled where there is a GPU: see tests/gpu"
)
