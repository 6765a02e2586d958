"""Rehearsed GPUs for tests, each with a cache of its own."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastgan.engine.triton.rehearsal import Machine, rehearse


@contextmanager
def gpus_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, devices: int = 1, *, checked: bool = False
) -> Iterator[Machine]:
    """So many GPUs; kernels are believed as they are, unless they are to be `checked` first."""
    monkeypatch.setenv("FASTGAN_CACHE", str(folder))
    if not checked:
        monkeypatch.setenv("FASTGAN_CHECK", "0")
    with rehearse(devices) as machine:
        yield machine
        gc.collect()
