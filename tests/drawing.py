"""Random inputs of tests: the same in every run, and fresh ones where asked for.

Each test has a seed of its own, made from its name, so that neither the order nor the number of
workers changes what it draws. With FASTGAN_FRESH=1 in the environment (`make test-fresh`, for the
night) each run draws anew. A failing test prints its seed; FASTGAN_FRESH=<seed> gives that one
again.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import zlib

import numpy as np
import torch

#: "0" for the same inputs in every run, "1" for fresh ones, or the seed of one run.
FRESH = os.environ.get("FASTGAN_FRESH", "0")


def new_seed() -> int:
    """The seed of the test that runs: 32 bits."""
    name = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" (")[0]
    name = re.sub(r"^tests/unit/\w+/", "tests/unit/", name)  # a test may move from room to room
    if FRESH == "0":
        seed = zlib.crc32(name.encode())
    else:
        seed = secrets.randbits(32) if FRESH == "1" else int(FRESH)
    print(f"FASTGAN_FRESH={seed}")  # pytest shows it when the test fails
    return seed


def new_generator(device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(new_seed())


def new_random() -> random.Random:
    return random.Random(new_seed())


def new_numpy() -> np.random.Generator:
    return np.random.default_rng(new_seed())


def poison(out: torch.Tensor) -> torch.Tensor:
    """Fills out so that an element that is never written shows."""
    return out.fill_(float("nan") if out.is_floating_point() else 77)
