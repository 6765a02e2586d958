"""What a run of a program does: launches in order, into memory of the program's or a caller's."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastgan.engine.device import Launch
from fastgan.engine.launches import Launches
from fastgan.engine.triton.counters import Drawn
from fastgan.images.format import ImageFormat

if TYPE_CHECKING:
    from fastgan.engine.triton.program import Program

#: Stands for the sampler where a `LaunchError` names a step.
SAMPLER = -1


class LaunchError(Exception):
    """A step's kernel could not be compiled or launched."""

    def __init__(self, index: int, reason: Exception) -> None:
        super().__init__(f"step {index}: {reason}")
        self.index, self.reason = index, reason


@dataclass(slots=True)
class Work:
    """What one run does, for one kind of result.

    Attributes:
        launches: in order.
        result: the images, or None where all outputs are wanted.
        flag: int32 [1], not 0 where the images hold a NaN or Inf; None where nobody asks.
        replay: all launches as one CUDA graph, once captured.
        plain: whether they can't be captured.
        kept: outputs that library ops made within the graph.
        drawn: the inputs that the launches draw themselves.
        moved: those that they copy to where they are read.
        owners: of each launch, the index of its step; -1 before the first, their number behind
            the last.
    """

    launches: list[Launch]
    result: Tensor | None = None
    flag: Tensor | None = None
    replay: Launch | None = None
    plain: bool = False
    kept: dict[str, Tensor] | None = None
    drawn: Drawn = ()
    moved: frozenset[str] = frozenset()
    owners: list[int] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        launches: Sequence[list[Launch]],
        result: Tensor | None = None,
        flag: Tensor | None = None,
    ) -> Work:
        """The launches of the inputs, of each step and of the images, one after the other."""
        owned = [(owner, one) for owner, each in enumerate(launches, -1) for one in each]
        return cls([one for _, one in owned], result, flag, owners=[owner for owner, _ in owned])

    def launch(self) -> None:
        """Everything, one launch after the other."""
        for launch in self.launches:
            launch()

    def launch_named(self, names: Launches) -> None:
        """The same, step by step."""
        pairs = zip(self.owners, self.launches, strict=True)
        for owner, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
            with names.step(owner):
                for _, launch in group:
                    launch()


@dataclass(slots=True, eq=False)
class Place:
    """Where a run that is made ready once reads and writes, each time.

    Attributes:
        image, out: the images that it makes, and where.
        given: by name the inputs that lie somewhere else than in the program's own memory.
        flag: int32 [1] of the host, set to 1 where the images hold a NaN or Inf, and never to 0;
            None where nobody asks.
        program, work: what runs, once that is known.
    """

    image: ImageFormat
    out: Tensor
    given: Mapping[str, Tensor]
    flag: Tensor | None = None
    program: Program | None = None
    work: Work | None = None

    @property
    def takes_kernels(self) -> bool:
        """Whether a kernel can write there, since it lies as their formats do."""
        dtype = torch.uint8 if self.image.format == "uint8" else torch.float32
        plain = self.out.is_contiguous() and self.out.dtype == dtype
        return plain and self.image.asked is self.image


@contextlib.contextmanager
def launching(index: int) -> Iterator[None]:
    """Says of which step a failure is."""
    try:
        yield
    except Exception as error:
        raise LaunchError(index, error) from error


def void(_: object) -> None:
    """Drop a result."""
