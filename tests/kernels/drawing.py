"""Fresh random inputs for every run, from a seed that a failing test prints."""

import random
import secrets

import torch


def new_generator(device: torch.device) -> torch.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # pytest shows it when the test fails
    return torch.Generator(device).manual_seed(seed)


def new_random() -> random.Random:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def poison(out: torch.Tensor) -> torch.Tensor:
    """Fills out so that an element that is never written shows."""
    return out.fill_(float("nan") if out.is_floating_point() else 77)
