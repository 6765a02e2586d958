"""Real time: frames on a schedule, walks through latent space, and where frames go.

`Generator.stream` makes a `Stream`; docs/realtime.md shows how the parts fit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.realtime.buffers import Frame
    from fastgan.realtime.combined import Each, Mix, Nudge, Retime
    from fastgan.realtime.ring import Asked, RingFrame, RingReader, RingWriter
    from fastgan.realtime.ring_words import RingShape
    from fastgan.realtime.signals import Envelope
    from fastgan.realtime.space import Space
    from fastgan.realtime.stats import Percentiles, Stats
    from fastgan.realtime.stream import Sink, Stream
    from fastgan.realtime.walks import Drift, Orbit, Rows, SeedPath, Walk

__all__ = [
    "Asked",
    "Drift",
    "Each",
    "Envelope",
    "Frame",
    "Mix",
    "Nudge",
    "Orbit",
    "Percentiles",
    "Retime",
    "RingFrame",
    "RingReader",
    "RingShape",
    "RingWriter",
    "Rows",
    "SeedPath",
    "Sink",
    "Space",
    "Stats",
    "Stream",
    "Walk",
]

# A game that reads frames out of a ring is to get by without torch.
_MODULES = {
    "buffers": ("Frame",),
    "combined": ("Each", "Mix", "Nudge", "Retime"),
    "ring": ("Asked", "RingFrame", "RingReader", "RingWriter"),
    "ring_words": ("RingShape",),
    "signals": ("Envelope",),
    "space": ("Space",),
    "stats": ("Percentiles", "Stats"),
    "stream": ("Sink", "Stream"),
    "walks": ("Drift", "Orbit", "Rows", "SeedPath", "Walk"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fastgan.realtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastgan.realtime.{_LAZY[name]}"), name)
