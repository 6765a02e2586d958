"""What this process may still take of its own limit.

Nothing heavy is imported here: a reader that has such a limit asks.
"""

from __future__ import annotations

from pathlib import Path


def left() -> int | None:
    """Bytes of `ulimit -v`; None where there is no such limit, or it can't be told."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - used)
