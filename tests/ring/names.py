"""Names of rings for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def ring_name() -> Iterator[str]:
    """A ring's name that nobody else has; what is left of it goes afterwards."""
    name = f"/fastgan-test-{uuid4().hex[:12]}"
    yield name
    Path("/dev/shm", name[1:]).unlink(missing_ok=True)
