"""temporary"""

import torch


def sample(
    distribution,
    n,
    shape,
    *,
    seed=0,
    start=0,
    truncation=None,
    rng="philox",
    device="cpu",
    out=None,
    stream=0,
):
    return torch.stack(
        [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed * 1000003 + start + i))
            for i in range(n)
        ]
    ).to(device)


def labels(n, classes, *, seed=0, start=0):
    return torch.arange(n) % classes
