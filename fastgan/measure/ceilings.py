"""What this machine can do at most, measured now: matrix products and copies.

The roofline model (Williams, Waterman and Patterson, 2009): a run takes at least the time of its
arithmetic at the rate of a large matrix product, and of its memory traffic at the rate of a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from fastgan.backends.base import PRECISIONS

_MATRIX = {"cpu": 2048, "cuda": 8192}
_COPY_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Rates by the name of the precision, and of a copy.

    Attributes:
        flops: floating-point operations per second of a large matrix product.
        copy: bytes per second of a large copy, each byte counted once read and once written.
    """

    flops: dict[str, float]
    copy: float

    def best(self, other: Ceilings) -> Ceilings:
        """The higher of two measurements, each rate on its own."""
        flops = {name: max(rate, other.flops[name]) for name, rate in self.flops.items()}
        return Ceilings(flops, max(self.copy, other.copy))

    def floor(self, precision: str, flops: float, moved: float) -> float:
        """The least seconds for so many operations and bytes."""
        return max(flops / self.flops[precision], moved / self.copy)

    def bound(self, precision: str, flops: float, moved: float) -> str:
        """Which of the two sets the floor: "arithmetic" or "memory"."""
        return "arithmetic" if flops / self.flops[precision] >= moved / self.copy else "memory"


def measure(device: torch.device, precisions: list[str], repeats: int = 5) -> Ceilings:
    """Measure the ceilings of `device`, the best of a few repeats, in about two seconds."""
    size = _MATRIX[device.type]
    flops = {}
    for precision in precisions:
        a = torch.randn(size, size, device=device).to(PRECISIONS[precision])
        out = torch.empty_like(a)
        with torch.inference_mode():
            seconds = _best(partial(torch.mm, a, a, out=out), device, repeats)
        flops[precision] = 2 * size**3 / seconds
    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    seconds = _best(lambda: target.copy_(source), device, repeats)
    return Ceilings(flops, 2 * _COPY_BYTES / seconds)


def _best(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    def once() -> float:
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    once()
    return min(once() for _ in range(repeats))
