"""Plans that threads make at the same time are what each makes alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import fastgan
from tests.planned import planned

NAMES = ["dcgan-digits", "vae-digits"] * 2


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns at every opportunity."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_plan_at_once(hasty: None) -> None:
    models = {name: fastgan.load(name, device="cpu", backend="torch") for name in NAMES}

    def made(name: str) -> str:
        steps = planned(models[name], batch=2).steps
        return str([(step.op, step.origin, step.epilogue) for step in steps])

    expected = [made(name) for name in NAMES]
    with ThreadPoolExecutor(len(NAMES)) as pool:
        for _ in range(8):
            assert list(pool.map(made, NAMES)) == expected
