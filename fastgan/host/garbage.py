"""Graphs are cycles, which reference counts alone never free."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collected_at_the_end() -> Iterator[None]:
    """Graphs that are made in here are gone behind it, where nothing holds them any more.

    Python's collector would go through growing graphs again and again, and find nothing; and once
    they are dropped, leave them for long. So it rests meanwhile, and then goes through what is new
    since, which takes milliseconds. Where it is off, or this is inside another one, nothing is
    done.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)
