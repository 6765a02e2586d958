"""What real time asks of a generator, so that nothing here need know who makes one."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from fastgan.model.signature import Signature
from fastgan.realtime.stream.stream import Stream


class Source(Protocol):
    """Makes images; `fastgan.Generator` is one, whose methods say what the arguments are."""

    @property
    def device(self) -> torch.device:
        """Where results lie."""

    @property
    def backend(self) -> str:
        """What runs the model."""

    @property
    def precision(self) -> str:
        """What it computes in."""

    @property
    def signature(self) -> Signature:
        """What each input and output is."""

    def at(self, precision: str) -> Source | None:
        """The same in another precision; None where its backend has none here."""

    def generate(self, n: int, **arguments: Any) -> Tensor:
        """Make images from a seed."""

    def __call__(self, images: Any, **arguments: Any) -> Any:
        """Make images of images."""

    def stream(self, **arguments: Any) -> Stream:
        """Frames on a schedule."""
