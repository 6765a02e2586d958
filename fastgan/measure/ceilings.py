"""What this machine can do at most, measured now: matrix products and copies.

The roofline model (Williams, Waterman and Patterson, 2009): a run takes at least the time of its
arithmetic at the rate of a large matrix product, and of its memory traffic at the rate of a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from fastgan.engine.base import PRECISIONS
from fastgan.measure.timing import timed, waiting

_MATRIX = {"cpu": 2048, "cuda": 8192}


def products(device: torch.device, precisions: Sequence[str], repeats: int = 5) -> dict[str, float]:
    """Operations per second of a large matrix product by precision: the best of some repeats."""
    size = _MATRIX[device.type]
    rates = {}
    for precision in precisions:
        a = torch.randn(size, size, device=device).to(PRECISIONS[precision])
        out = torch.empty_like(a)
        run = partial(torch.mm, a, a, out=out)
        if precision == "fp8":
            codes, one = a.to(torch.float8_e4m3fn), torch.ones((), device=device)
            run = partial(torch._scaled_mm, codes, codes.t(), one, one, out_dtype=torch.bfloat16)
        with torch.inference_mode():
            rates[precision] = 2 * size**3 / _best(run, device, repeats)
    return rates


def copies(device: torch.device, moved: int, repeats: int = 10) -> float:
    """Bytes per second of a copy that moves so many bytes, reads and writes together.

    The size matters: what fits a cache is copied at the cache's rate.
    """
    source = torch.ones(max(1, moved // 8), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(partial(target.copy_, source), device, repeats)


def _best(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    once = partial(timed, run, waiting(device))
    once()
    return min(once() for _ in range(repeats))
