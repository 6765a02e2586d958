"""The frames of torture.c."""

from __future__ import annotations

import numpy as np


def expected(index: int, width: int) -> np.ndarray:
    """The frame that torture.c makes of an index: uint8 [width, width, 3]."""
    count = width * width * 3
    with np.errstate(over="ignore"):
        words = np.uint64(index) * np.uint64(0x9E3779B97F4A7C15)
        words = words + np.arange(-(-count // 8), dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)
    words ^= words >> np.uint64(29)
    return words.view(np.uint8)[:count].reshape(width, width, 3)
