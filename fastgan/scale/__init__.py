"""Mass generation: samples in shards, each whole, named, proven (docs/scale.md).

`work` makes shards in this process: one machine, or one task of a job array. `on_ray` has Ray Data
do the same on many. Both write what `sinks` format into a `store`, a folder or a bucket, beside a
`manifest` of what made it, so that `verify` can say whether all of it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.scale.on_ray import apply, generate
    from fastgan.scale.report import Report
    from fastgan.scale.verify import verify

__all__ = ["Report", "apply", "generate", "verify"]

_HOMES = {"Report": "report", "apply": "on_ray", "generate": "on_ray", "verify": "verify"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastgan.scale' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"fastgan.scale.{_HOMES[name]}"), name)
