"""Real time: frames on a schedule, walks through latent space, and where frames go.

`Generator.stream` makes a `Stream`; docs/realtime.md shows how the parts fit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.realtime.outputs.gl import GLTexture
    from fastgan.realtime.ring.cuda import CudaRingReader, CudaRingWriter
    from fastgan.realtime.ring.reader import RingFrame, RingReader
    from fastgan.realtime.ring.words import RingShape, include_dir
    from fastgan.realtime.ring.writer import Asked, RingWriter
    from fastgan.realtime.stream.buffers import Frame
    from fastgan.realtime.stream.stats import Percentiles, Stats
    from fastgan.realtime.stream.stream import Sink, Stream
    from fastgan.realtime.walks.combined import (
        Each,
        Mix,
        Nudge,
        Retime,
    )
    from fastgan.realtime.walks.signals import Envelope
    from fastgan.realtime.walks.space import Space
    from fastgan.realtime.walks.walks import (
        Drift,
        Orbit,
        Rows,
        SeedPath,
        Walk,
    )

__all__ = [
    "Asked",
    "CudaRingReader",
    "CudaRingWriter",
    "Drift",
    "Each",
    "Envelope",
    "Frame",
    "GLTexture",
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
    "include_dir",
]

# A game that reads frames out of a ring is to get by without torch.
_MODULES = {
    "stream.buffers": ("Frame",),
    "walks.combined": ("Each", "Mix", "Nudge", "Retime"),
    "outputs.gl": ("GLTexture",),
    "ring.cuda": ("CudaRingReader", "CudaRingWriter"),
    "ring.reader": ("RingFrame", "RingReader"),
    "ring.words": ("RingShape", "include_dir"),
    "ring.writer": ("Asked", "RingWriter"),
    "walks.signals": ("Envelope",),
    "walks.space": ("Space",),
    "stream.stats": ("Percentiles", "Stats"),
    "stream.stream": ("Sink", "Stream"),
    "walks.walks": ("Drift", "Orbit", "Rows", "SeedPath", "Walk"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fastgan.realtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastgan.realtime.{_LAZY[name]}"), name)
