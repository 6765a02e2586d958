"""A convolution's kernel beside PyTorch's own, and the tilings that lead through all its paths."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch

from fastgan.kernels.types import Config
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

#: Tiles that do not divide the problem, split reductions, descriptors with the pixels as either
#: factor.
TILINGS = (
    Config(16, 16, 16),
    Config(32, 16, 32, split_k=3),
    Config(32, 32, 32, split_k=16, persistent=1),
    Config(16, 32, 16, descriptors=True),
    Config(32, 64, 32, descriptors=True),
    Config(16, 64, 16, descriptors=True, split_k=2),
    Config(16, 64, 16, descriptors=True, persistent=1),
)


def sizes(random: Random, low: int, high: int) -> dict[str, int]:
    """Of a case: a few images of sides from low to high, and channels that fill tiles or do not."""
    return {
        "batch": random.randint(1, 3),
        "c_in": random.choice((1, 3, 8, 17, 32)),
        "height": random.randint(low, high),
        "width": random.randint(low, high),
        "c_out": random.choice((1, 3, 5, 16, 33)),
    }


def check(
    kernel: Any,
    prepare: Callable[..., Any],
    eager: Callable[..., torch.Tensor],
    case: Any,
    device: torch.device,
    config: Config | None = None,
) -> None:
    """Hold a kernel to what `eager(x, weight, bias, case)` makes of the same tensors."""
    print(case, config)
    inputs = kernel.inputs(case, new_generator(device), device)
    prepared = prepare(**inputs.launch, config=config)
    poison(prepared.out)
    given = inputs.reference
    expected = eager(given["x"], given["weight"], given["bias"], case)
    assert_close(prepared.run(), expected.to(case.dtype), case.dtype)
