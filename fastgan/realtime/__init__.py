"""Real time: frames on a schedule, walks through latent space, and where frames go.

`Generator.stream` makes a `Stream`; docs/realtime.md shows how the parts fit.
"""

from __future__ import annotations

from fastgan.realtime.buffers import Frame
from fastgan.realtime.signals import Envelope
from fastgan.realtime.stats import Percentiles, Stats
from fastgan.realtime.stream import Sink, Stream
from fastgan.realtime.walks import (
    Drift,
    Each,
    Mix,
    Nudge,
    Orbit,
    Retime,
    Rows,
    SeedPath,
    Space,
    Walk,
)

__all__ = [
    "Drift",
    "Each",
    "Envelope",
    "Frame",
    "Mix",
    "Nudge",
    "Orbit",
    "Percentiles",
    "Retime",
    "Rows",
    "SeedPath",
    "Sink",
    "Space",
    "Stats",
    "Stream",
    "Walk",
]
