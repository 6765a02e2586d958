"""Which phases of 3 x 3 taps are computed by Winograd's minimal filtering, and their weights.

See csrc/runtime/kernels_winograd.h. A tile of M x M pixels takes (M + 2)^2 products for each input
and output channel instead of 9 M^2: 2.25 times fewer with M = 2, four times with M = 4.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fastgan.engine.native.packing import Layout, PackedPhase

#: What the weights of three taps become, for each M; for 4 on the points 0, +-3/4, +-3/2, infinity.
_WEIGHTS = {
    2: torch.tensor([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], dtype=torch.float64) / 2,
    4: torch.tensor(
        [
            [64 / 81, 0, 0],
            [-128 / 243, -32 / 81, -8 / 27],
            [-128 / 243, 32 / 81, -8 / 27],
            [32 / 243, 16 / 81, 8 / 27],
            [32 / 243, -16 / 81, 8 / 27],
            [0, 0, 1],
        ],
        dtype=torch.float64,
    ),
}

#: Additions and multiplications of a tile's transforms for each input, and output, channel.
_TRANSFORMS = {2: (70, 45), 4: (330, 200)}

#: It is to save this share of the time that is estimated.
_SAVES = 0.15


def minimal(made: Layout, width: int, most: int) -> Layout:
    """The layer with Winograd's weights on the phases where that saves work.

    Args:
        made: as `packing.layout` has it.
        width: floats to a vector.
        most: the largest M.
    """
    if made.in_step != [1, 1]:
        return made
    phases = [_minimal(made, phase, width, most) for phase in made.phases]
    return replace(made, phases=phases)


def _minimal(made: Layout, phase: PackedPhase, width: int, most: int) -> PackedPhase:
    dy, dx = phase.taps[0] if phase.taps else (0, 0)
    if phase.taps != [(dy + y, dx + x) for y in range(3) for x in range(3)]:
        return phase
    channels = made.input[2]
    blocks = phase.weights.shape[0]
    rows, columns = phase.pixels

    def cost(m: int) -> float:
        """Vector operations of an image."""
        if m == 0:
            return rows * columns * 9 * channels * blocks * made.vectors
        tiles = -(-rows // m) * -(-columns // m)
        inputs, outputs = _TRANSFORMS[m]
        products = (m + 2) ** 2 * channels * blocks * made.vectors
        vectors = -(-channels // width)
        return tiles * (products + inputs * vectors + outputs * blocks * made.vectors)

    best = min((m for m in (0, 2, 4) if m <= most), key=cost)
    if best == 0 or cost(best) > (1 - _SAVES) * cost(0):
        return phase
    return replace(phase, weights=_transformed(phase.weights, best), minimal=best)


def _transformed(weights: Tensor, m: int) -> Tensor:
    """[blocks, 9, channels, lanes, 1] -> [blocks, (m + 2)^2, channels, lanes]."""
    taps = weights.squeeze(-1).unflatten(1, (3, 3)).double()
    g = _WEIGHTS[m]
    return torch.einsum("iy,jx,byxcl->bijcl", g, g, taps).flatten(1, 2).float().contiguous()
