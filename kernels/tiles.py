"""Tile configurations for everything that is a matrix product underneath, chosen by problem size.

The defaults are reasoned, not measured: large tiles read the least per multiplication, so the
largest tile is taken that still gives every multiprocessor a program; where even small tiles are
too few, the reduction is split. The tuner measures the whole list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .types import INTERPRETED, Capability, Config, ceil_div, next_power_of_two

# Multiprocessors of the largest common GPU of each compute capability: for where there is none.
MULTIPROCESSORS = {
    (8, 0): 108,
    (8, 6): 84,
    (8, 9): 142,
    (9, 0): 132,
    (10, 0): 148,
    (12, 0): 170,
}

MOST_SPLITS = 16


@dataclass(frozen=True)
class Product:
    """Sums over taps * channels for rows (output pixels) by columns (output channels)."""

    rows: int
    columns: int
    channels: int
    taps: int = 1
    copies: int = 1  # independent products in one launch: the phases of a transposed convolution
    dtype: torch.dtype = torch.float16
    precision: str = "ieee"
    # Whether the kernel has a path through tensor descriptors for this problem.
    descriptors: bool = False

    @property
    def eight_bit(self) -> bool:
        return self.dtype.itemsize == 1


def configs(product: Product, capability: tuple[int, int]) -> tuple[Config, ...]:
    """The configurations worth trying, the default first."""
    if INTERPRETED:
        return (interpreted(product),)
    ladder = tiles(product, capability)
    multiprocessors = multiprocessors_of(capability)
    for tile in ladder:
        if 4 * programs(product, tile) >= 3 * multiprocessors:
            default = tile
            break
    else:
        # As small as pays, but no smaller: smaller tiles would read the weights more often.
        default = next((t for t in ladder if t.block_m <= 64), ladder[-1])
        default = split(product, default, multiprocessors)
    others = [split(product, tile, multiprocessors) for tile in ladder]
    others += walking(product, [default, *ladder], multiprocessors)
    others += thrice(product, capability)
    unique = dict.fromkeys([default, *ladder, *others])
    return tuple(unique)


def multiprocessors_of(capability: tuple[int, int]) -> int:
    """How many programs keep a GPU busy: its own number, or its capability's where none is meant.

    A GPU with fewer than the largest of its kind takes larger tiles, and splits less.
    """
    if isinstance(capability, Capability):
        return capability.multiprocessors
    return MULTIPROCESSORS.get(capability, 132)


def programs(product: Product, tile: Config) -> int:
    tiles_of_copy = ceil_div(product.rows, tile.block_m) * ceil_div(product.columns, tile.block_n)
    return tiles_of_copy * product.copies


def split(product: Product, tile: Config, multiprocessors: int) -> Config:
    """The tile with its reduction split so that all multiprocessors have work, if that helps."""
    steps = product.taps * ceil_div(product.channels, tile.block_k)
    wanted = multiprocessors // programs(product, tile)
    # Less than four steps do not pay for the second launch.
    parts = min(wanted, steps // 4, MOST_SPLITS)
    return tile.with_(split_k=parts) if parts > 1 else tile


def walking(product: Product, ladder: list[Config], multiprocessors: int) -> list[Config]:
    """The first two tiles of which every multiprocessor has several, made by persistent programs.

    Through descriptors only: the compiler overlaps a tile's end with bulk copies for the next one.
    """
    found = []
    for tile in dict.fromkeys(ladder):
        resident = max(1, 8 // tile.num_warps)  # two of 4 warps, or one of 8, by their registers
        if tile.descriptors and programs(product, tile) >= 3 * resident * multiprocessors:
            found.append(tile.with_(persistent=resident))
    return found[:2]


def thrice(product: Product, capability: tuple[int, int]) -> list[Config]:
    """Of float32, tiles whose products are three in tf32: the tensor cores against scalar ones."""
    if product.dtype != torch.float32 or product.precision != "ieee" or capability < (8, 0):
        return []
    found = tiles(replace(product, precision="tf32"), capability)
    # The factors are in registers in two parts each; larger tiles of 4 warps spill.
    fitting = (t for t in found if t.num_warps > 4 or t.block_m * t.block_n <= 64 * 64)
    return [tile.with_(tf32x3=True) for tile in fitting]


def refinements(tile: Config, capability: tuple[int, int]) -> list[Config]:
    """What to try beside the tile that turned out to be the fastest."""
    return [tile.with_(dependent=True)] if capability >= (9, 0) else []


# (rows, columns, warps, stages); 0 columns stand for as many as there are. Through descriptors,
# products of 64 columns and more have the pixels as wgmma's second factor, which may be as narrow
# as 16; otherwise the pixels are the first factor, of 64 and more.
BULK = ((128, 256, 8, 3), (128, 128, 8, 3), (256, 64, 8, 3), (128, 64, 4, 4), (64, 64, 4, 4))
BULK += ((32, 64, 4, 4), (16, 64, 4, 4))
BULK_NARROW = ((256, 0, 8, 3), (128, 0, 4, 4), (64, 0, 4, 4))
HALF = ((128, 128, 8, 4), (128, 64, 4, 4), (64, 64, 4, 4), (32, 64, 4, 4), (16, 64, 4, 4))
HALF_DEEP = ((128, 128, 8, 3), (128, 64, 4, 3), (64, 64, 4, 4), (32, 64, 4, 4), (16, 64, 4, 4))
TF32 = ((128, 128, 8, 3), (128, 64, 4, 3), (64, 64, 4, 3), (32, 64, 4, 3), (16, 64, 4, 3))
IEEE = ((128, 128, 8, 2), (64, 64, 4, 3), (32, 64, 4, 3), (16, 64, 4, 3))
NARROW = ((128, 0, 4, 3), (64, 0, 4, 3), (32, 0, 4, 3), (16, 0, 4, 3))


def tiles(product: Product, capability: tuple[int, int]) -> list[Config]:
    """Tiles from large to small, none more than twice as large as the problem."""
    rows = max(16, next_power_of_two(product.rows))
    columns = max(16, next_power_of_two(product.columns))
    narrow = columns < 64
    half = product.dtype != torch.float32
    bulk = half and product.descriptors and capability[0] in (9, 10)
    deep = half and capability[0] in (9, 10) and product.channels % 64 == 0
    if bulk:
        sizes, k = (BULK_NARROW if narrow else BULK), 64
    elif half:
        # Hopper's multiprocessors hold tiles of 64 channels, three stages deep, twice.
        sizes, k = (NARROW if narrow else HALF_DEEP if deep else HALF), 64 if deep else 32
    elif product.precision == "ieee":
        sizes, k = (NARROW if narrow else IEEE), 16
    else:
        sizes, k = (NARROW if narrow else TF32), 32
    if product.eight_bit:
        k = 2 * k if product.channels % (2 * k) == 0 else k  # as many bytes
        if bulk and capability[0] == 9:
            # wgmma's sums are promoted to float32 once a step, so a tile holds its sums twice.
            sizes = tuple(size for size in sizes if size[0] * size[1] <= 128 * 128)
    k_most = product.channels * (1 if bulk else product.taps)
    k = min(k, max(16, next_power_of_two(k_most)))
    smallest = sizes[-1][0]
    fitting = []
    for m, n, warps, stages in sizes:
        if m <= max(rows, smallest) and n <= columns:
            tile = Config(m, n or columns, k, warps, stages, 1, bulk)
            fitting.append(tile.with_(max_registers=most_registers(tile, product, capability)))
    if bulk and narrow and not product.eight_bit:
        # Bulk copies pass the first-level cache by, so each tap of an image layer reads the second
        # again; pointers find what the tap beside it has read. A candidate, until it is measured.
        fitting += pointed(product)
    # 256 columns leave few registers for the epilogue, and with the NaN guard in it too few; and a
    # short reduction leaves the time at a tile's ends, where two smaller tiles that share a
    # multiprocessor overlap and one large one would wait. So these come last.
    short = product.taps * product.channels < 1024
    # Where that time is the bulk copies' from the second-level cache, and so with 64 columns, the
    # larger tile reads a sixth less.
    shared = short and (narrow or not bulk)
    return sorted(
        fitting,
        key=lambda t: bulk > t.descriptors or t.block_n > 128 or (shared and t.block_m > 128),
    )


def pointed(product: Product) -> list[Config]:
    """Tiles of few columns that are read through pointers, with a stage or two."""
    columns = max(16, next_power_of_two(product.columns))
    k = min(64, max(16, next_power_of_two(product.channels)))
    return [Config(m, columns, k, 4, stages) for m, stages in ((128, 2), (128, 1), (64, 2))]


def most_registers(tile: Config, product: Product, capability: tuple[int, int]) -> int:
    """The registers that a thread of a tile may take; 0 leaves it to the assembler.

    Left alone, that may aim for fewer than a tile needs so that another block fits, and spill.
    These are the least changes with which no default of the static report does.
    """
    if tile.descriptors or tile.num_warps != 4:
        return 0
    half, size = product.dtype != torch.float32, (tile.block_m, tile.block_n)
    if tile.block_n < 64 and tile.block_m * tile.block_n <= 64 * 64:
        return 168 if product.precision == "tf32" and not half else 128
    if half and tile.block_m <= 64:
        return 168
    if half and size == (128, 64):
        return 208 if capability == (12, 0) else 0
    if size == (64, 64) and product.precision == "ieee":
        return 192 if capability == (9, 0) else 0
    return 0


def interpreted(product: Product) -> Config:
    """An interpreted program costs about the same whatever its size: few and large ones."""
    return Config(
        block_m=min(512, max(16, next_power_of_two(product.rows))),
        block_n=min(2048, max(16, next_power_of_two(product.columns))),
        block_k=min(1024, max(16, next_power_of_two(product.channels))),
    )
