"""A budget for a frame: kept, or an error that says what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from fastgan.errors import BudgetError, FastganError

if TYPE_CHECKING:
    from fastgan.realtime.source import Source

#: What is measured for an alternative.
_RUNS = 5


def check(
    generator: Source,
    measured_ms: float,
    budget_ms: float,
    batch: int,
    format: str,
    size: tuple[int, int] | None,
) -> None:
    """Raise unless a frame takes at most its budget.

    Raises:
        BudgetError: it takes longer; with the measured time, and what was measured to fit.
    """
    if measured_ms <= budget_ms:
        return
    what = f"batch {batch}" if size is None else f"{size[0]}x{size[1]}"
    kind = f"{what} in {generator.precision} on {generator.device}"
    tried = list(_alternatives(generator, batch, format, size))
    fits = [f"{name} takes {ms:.2f} ms" for name, ms in tried if ms <= budget_ms]
    least = min(tried, key=lambda one: one[1], default=None)
    if fits:
        instead = "what would fit: " + "; ".join(fits)
    elif least is None:
        instead = "there is no smaller batch, lower precision or smaller size to take"
    else:
        instead = f"nothing that was tried fits: {least[0]} comes nearest with {least[1]:.2f} ms"
    raise BudgetError(
        "budget_ms", f"{measured_ms:.2f} ms for {kind}", f"at most {budget_ms:g} ms", instead
    )


def _alternatives(
    generator: Source, batch: int, format: str, size: tuple[int, int] | None
) -> Iterator[tuple[str, float]]:
    """(what, milliseconds) of cheaper ways to run."""
    lower = "bf16" if generator.device.type == "cpu" else "fp16"
    makers: list[Source] = [generator]
    if generator.precision not in ("bf16", "fp16", "fp8"):
        cheaper = generator.at(lower)  # None where its backend does not take that here
        makers += [] if cheaper is None else [cheaper]
    if generator.signature.image is not None:
        height, width = size or (0, 0)
        shapes = [(height // part, width // part) for part in (1, 2, 4) if min(height, width) > 16]
        for made in makers:
            for shape in shapes:
                if (made, shape) != (generator, size):
                    what = f"{shape[0]}x{shape[1]} in {made.precision}"
                    yield from _timed(made, what, 1, format, shape)
        return
    sizes = [batch]
    while sizes[-1] > 1 and generator.signature.frozen_batch is None:
        sizes.append(sizes[-1] // 2)
    for made in makers:
        for n in sizes:
            if (made, n) != (generator, batch):
                yield from _timed(made, f"batch {n} in {made.precision}", n, format, None)


def _timed(
    generator: Source, name: str, n: int, format: str, size: tuple[int, int] | None
) -> Iterator[tuple[str, float]]:
    try:
        taken = []
        port = generator.signature.image
        for _ in range(_RUNS + 1):
            began = perf_counter()
            if size is None or port is None:
                generator.generate(n, batch_size=n, format=format)
            else:
                channels = port.shape[1] if isinstance(port.shape[1], int) else 3
                image = torch.zeros((1, *size, channels), dtype=torch.uint8)
                generator(image, format=format)
            if generator.device.type == "cuda":
                torch.cuda.synchronize(generator.device)
            taken.append((perf_counter() - began) * 1e3)
    except FastganError:  # this model or device does not do it
        return
    yield name, sorted(taken[1:])[_RUNS // 2]
