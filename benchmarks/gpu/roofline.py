"""The share of what the ceilings of the same run allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def roofline(cell: Mapping[str, Any], rates: Mapping[str, float]) -> float | None:
    """Of a cell with `flops`, `bytes`, `p50` and `precision`; None where a ceiling is unknown."""
    precision = cell.get("precision")
    peak = rates.get("product fp16" if precision == "fp8" else f"product {precision}")
    copy, peak_fp8 = rates.get("copy"), rates.get("product fp8", peak)
    if not peak or not peak_fp8 or not copy or "flops" not in cell:
        return None
    eight = cell.get("flops_fp8", 0)  # the large layers alone: all others are fp16
    compute = (cell["flops"] - eight) / peak + eight / peak_fp8
    return max(compute, cell["bytes"] / copy) / float(cell["p50"])
