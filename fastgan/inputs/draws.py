"""Inputs that are drawn where they are needed, rather than beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan import latents
from fastgan.latents.philox import Parameters


class Samples(NamedTuple):
    """Which samples of the counter-based generator these are (`fastgan.latents.philox`).

    Attributes:
        kind: of the numbers, as `philox` counts them.
        seed, start, stream: of the first sample.
        parameters: of this kind.
    """

    kind: int
    seed: int
    start: int
    stream: int
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Draw:
    """Samples that are made where they are needed: rows of an input, not yet drawn.

    Attributes:
        shape: of all rows, as a tensor's.
        fill: `fill(first, out)` writes rows first, first + 1, ... to float32, contiguous `out`.
        first: the index of the first row.
        samples: which ones row 0 and those after it are; None where another generator makes them.
    """

    shape: tuple[int, ...]
    fill: Callable[[int, Tensor], object]
    first: int = 0
    samples: Samples | None = None

    def __getitem__(self, rows: slice) -> Draw:
        """These rows, as of a tensor."""
        begin, end, _ = rows.indices(self.shape[0])
        shape = (end - begin, *self.shape[1:])
        return replace(self, shape=shape, first=self.first + begin)

    def of(self, seed: int, start: int) -> Draw:
        """The same rows of another seed, or from another sample on; where `samples` are known."""
        assert self.samples is not None
        samples = self.samples._replace(seed=seed, start=start)
        kind, _, _, stream, parameters = samples

        def fill(first: int, out: Tensor) -> None:
            rows = out.view(out.shape[0], -1)
            latents.filling(kind, rows)(seed, start + first, stream, parameters)

        return replace(self, fill=fill, first=0, samples=samples)

    def into(self, out: Tensor) -> None:
        """Draw them, into a tensor of this shape."""
        self.fill(self.first, out)

    def tensor(self, device: torch.device) -> Tensor:
        """Draw them, into a new tensor."""
        out = torch.empty(self.shape, dtype=torch.float32, device=device)
        self.into(out)
        return out
