"""Grids of as many programs as a GPU holds at once, each of which walks over many tiles.

A program that makes one tile begins with loads that nothing overlaps with and ends with stores that
nothing does. One that walks has the loop over its tiles and that over the steps of a tile made one
by the compiler (`tl.range(flatten=True)`), so that the next tile's loads run beside the last one's
stores. It pays where there are several tiles to a multiprocessor; whether it does is measured.
"""

from __future__ import annotations

import torch

from .types import Config


def multiprocessors(device: torch.device) -> int:
    """Those of a device; without one (interpreted, or compiled for another machine) there is 1."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def programs(config: Config, tiles: int, device: torch.device) -> int:
    """How many programs make so many tiles."""
    if not config.persistent:
        return tiles
    return min(tiles, config.persistent * multiprocessors(device))
