"""A reduction that several programs share: whoever of a tile's comes last adds their parts up.

Each program leaves its part in memory and counts itself in; nobody waits for anybody. The last one
reads all parts, its own too, and adds them in their order, so the sum has the same bits whoever was
last. It sets the count back to 0, for the next launch.

The count is an atomic addition that releases what this program has stored and acquires what those
before it have (PTX's memory consistency model: `atom.acq_rel.gpu` between two barriers of a block).
"""

import torch
import triton
import triton.language as tl

from .records import Parts
from .types import Config


def record(config: Config, tiles: int, device: torch.device) -> Parts | None:
    """Memory for the parts of so many tiles; None where nothing is split."""
    if config.split_k == 1:
        return None
    shape = (config.split_k, tiles, config.block_m, config.block_n)
    sums = torch.empty(shape, dtype=torch.float32, device=device)
    return Parts(sums, torch.zeros(tiles, dtype=torch.int32, device=device))


@triton.jit
def is_last(
    value, parts, tile, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPLITS: tl.constexpr
):
    """Leave [ROWS, COLUMNS] as this program's part; whether all others' are there."""
    place = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    first = (tl.program_id(1).to(tl.int64) * tiles + tile) * (ROWS * COLUMNS)
    tl.store(parts.sums + first + place, value)
    tl.debug_barrier()  # all threads have stored
    arrived = tl.atomic_add(parts.arrived + tile, 1, sem="acq_rel", scope="gpu")
    tl.debug_barrier()  # none reads before that
    return arrived == SPLITS - 1


@triton.jit
def summed(parts, tile, tiles, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPLITS: tl.constexpr):
    """The sum of all parts of a tile, for the last program of it."""
    place = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    value = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for part in range(SPLITS):
        first = (tl.cast(part, tl.int64) * tiles + tile) * (ROWS * COLUMNS)
        # Past the first-level cache, which is not kept in step with other multiprocessors.
        value += tl.load(parts.sums + first + place, cache_modifier=".cg")
    tl.store(parts.arrived + tile, 0)
    return value
