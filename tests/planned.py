"""Plans as they are made, before a backend merges steps for its own kernels."""

from __future__ import annotations

from fastgan.generator import Generator
from fastgan.plan import Plan, make


def planned(generator: Generator, batch: int = 1) -> Plan:
    """What the rewrites made of a generator's model for a batch of this size."""
    model = generator._session.model
    return make(model.file.model, model.shapes(batch), model.file.limits)
