"""The share of what the ceilings of the same run allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def roofline(cell: Mapping[str, Any], rates: Mapping[str, float]) -> float | None:
    """Of a cell with `flops`, `bytes`, `p50` and `precision`; None where a ceiling is unknown."""
    peak, copy = rates.get(f"product {cell.get('precision')}"), rates.get("copy")
    if not peak or not copy or "flops" not in cell:
        return None
    return max(cell["flops"] / peak, cell["bytes"] / copy) / float(cell["p50"])
