"""The model that ships, loaded once."""

from __future__ import annotations

import pytest

import fastgan
from fastgan.generator import Generator


@pytest.fixture(scope="session")
def digits() -> Generator:
    """dcgan-digits on the CPU: latents [100], images [1, 32, 32]."""
    return fastgan.load("dcgan-digits", device="cpu", backend="torch")
