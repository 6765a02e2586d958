"""How many images a run makes: n samples split into batches that suit the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from fastgan.plan import Plan

if TYPE_CHECKING:
    from fastgan.engine.base import Target

#: The inputs and outputs of a plan's largest step should stay in a CPU's outer caches.
_CPU_CACHE_BYTES = 8 << 20

#: The largest batch chosen by itself, by type of device.
_LARGEST = {"cpu": 64, "cuda": 1024}

#: A GPU's second-level cache where torch does not tell its size.
_L2_BYTES = 32 << 20


def planned(most: float) -> int:
    """The largest batch of at most so many for which there is to be a plan, or a graph of a GPU."""
    return 1 << (max(1, int(most)).bit_length() - 1)


def automatic_batch(plan: Plan | None, target: Target) -> int:
    """The batch size that keeps a plan's largest step in cache: a power of two."""
    on_cpu = target.device.type == "cpu"
    largest = _LARGEST[target.device.type]
    if plan is None:
        return largest if on_cpu else 256
    # Buffers are planned in the model's own dtype, fp32. 16 bits halve them, but not on a CPU:
    # factors alone are of so many there.
    size = 4 if on_cpu else target.dtype.itemsize
    one_image = max(1, plan.peak_bytes * size // 4)
    cache = _CPU_CACHE_BYTES if on_cpu else _l2_bytes(target.device)
    return min(largest, planned(cache // one_image))


def _l2_bytes(device: torch.device) -> int:
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "L2_cache_size", 0) or _L2_BYTES)


def split(
    n: int, batch: int | None, frozen: int | None = None, *, whole: bool = False
) -> Iterator[tuple[int, int]]:
    """(first, count) of each batch: full ones, then the rest in falling powers of two.

    Every size of a rest is a power of two below the batch, so that a model is planned for a
    handful of sizes, whatever n is asked for.

    Args:
        n: how many samples.
        batch: the size of a full batch; at least n if None.
        frozen: the only size that the model runs at; the last batch is then what is left.
        whole: the rest is one batch, which is filled up where it runs (`filled`).
    """
    full = frozen or batch or n
    first = 0
    while n - first >= full:
        yield first, full
        first += full
    while first < n:
        rest = n - first
        count = rest if frozen or whole else planned(rest)
        yield first, count
        first += count


def filled(count: int, batch: int | None) -> int:
    """How many rows a batch of so many samples has where its rest is filled up: a power of two."""
    return min(batch or count, 2 * planned(count - 1) if count > 1 else 1)


class Batches:
    """The batches of a run, as `split` makes them, smaller from where memory did not suffice.

    Args:
        n, batch, frozen, whole: as `split` takes them.
    """

    def __init__(
        self, n: int, batch: int | None, frozen: int | None = None, *, whole: bool = False
    ) -> None:
        self._pending = deque(split(n, batch, frozen, whole=whole))
        self._frozen = frozen is not None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self._pending:
            yield self._pending.popleft()

    def halve(self, first: int, count: int) -> int | None:
        """Do batch (first, count) again in halves, and none larger after it.

        Returns:
            The new largest size, or None if there is nothing to halve.
        """
        if count == 1 or self._frozen:
            return None
        most = planned(count - 1)
        again = [(first, count), *self._pending]
        self._pending.clear()
        for begin, rows in again:
            self._pending.extend((begin + at, part) for at, part in split(rows, most))
        return most
