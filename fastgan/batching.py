"""How many images a run makes: n samples split into batches that suit the device."""

from __future__ import annotations

from collections.abc import Iterator

from fastgan.backends import Target
from fastgan.plan import Plan

#: The inputs and outputs of a plan's largest step should stay in a CPU's outer caches.
_CPU_CACHE_BYTES = 8 << 20

#: The largest batch chosen by itself, by type of device.
_LARGEST = {"cpu": 64, "cuda": 256}


def automatic_batch(plan: Plan | None, target: Target) -> int:
    """The batch size that keeps a plan's largest step in cache: a power of two."""
    largest = _LARGEST[target.device.type]
    if plan is None or target.device.type != "cpu":
        return largest
    # Buffers are planned in the model's own dtype, fp32; bf16 halves them.
    one_image = max(1, plan.peak_bytes * target.dtype.itemsize // 4)
    fits = max(1, _CPU_CACHE_BYTES // one_image)
    return int(min(largest, 1 << (fits.bit_length() - 1)))


def split(n: int, batch: int | None, frozen: int | None = None) -> Iterator[tuple[int, int]]:
    """(first, count) of each batch: full ones, then the rest in falling powers of two.

    Every size of a rest is a power of two below the batch, so that a model is planned for a
    handful of sizes, whatever n is asked for.

    Args:
        n: how many samples.
        batch: the size of a full batch; at least n if None.
        frozen: the only size that the model runs at; the last batch is then what is left.
    """
    full = frozen or batch or n
    first = 0
    while n - first >= full:
        yield first, full
        first += full
    while first < n:
        rest = n - first
        count = rest if frozen else 1 << (rest.bit_length() - 1)
        yield first, count
        first += count
