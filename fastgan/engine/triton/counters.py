"""Samples that the launches of a model draw themselves, from counters in device memory.

A counter says which sample of which seed comes next, and drawing moves it on. So a captured graph
makes the next images each time that it is replayed, and nothing is launched before it, batch after
batch or frame after frame. The host knows where each counter stands, and sets it when something
else is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.device import Device
from fastgan.inputs.draws import Draw, Samples

#: The names and kinds of the inputs that a work draws itself.
Drawn = tuple[tuple[str, int], ...]


class Counter:
    """Where an input's samples come from next; to be used within the workspace's turn alone."""

    def __init__(self, device: Device) -> None:
        from fastgan.kernels import latents

        self._device = device
        with torch.inference_mode(False):  # it is written in that mode and out of it
            self._state = device.empty((latents.WORDS,), torch.int32).zero_()
        # The samples that it stands at; None while a run may have moved it.
        self._at: Samples | None = None

    def set(self, samples: Samples) -> None:
        """Let the next samples be these. What comes of a run from here on, `drew` has to say."""
        known, self._at = self._at, None
        if known == samples:
            return
        from fastgan.kernels import latents

        words = latents.words(samples.seed, samples.start, samples.stream, *samples.parameters)
        with self._device.current():  # a replay takes a turn in which another one may be
            self._device.put(words, self._state)

    def drew(self, samples: Samples, rows: int) -> None:
        """So many rows, from these samples on, have been drawn: a run went well."""
        kind, seed, start, stream, parameters = samples  # `_replace` takes three times as long
        self._at = Samples(kind, seed, (start + rows) % (1 << 64), stream, parameters)

    def drawing(self, kind: int, out: Tensor) -> Callable[[], None]:
        """The launches that draw into `out` [n, ...], contiguous, and move the counter on."""
        from fastgan.kernels import latents

        rows = out.view(out.shape[0], -1)
        return lambda: latents.fill_next(kind, rows, self._state)


def drawn(inputs: Mapping[str, Any], places: Iterable[str]) -> Drawn:
    """Which inputs the launches can draw themselves.

    Args:
        inputs: tensors, and `Draw`s.
        places: the inputs that have a place for float32 samples.
    """
    found = ((name, inputs[name]) for name in places)
    return tuple(
        (name, value.samples.kind)
        for name, value in found
        if isinstance(value, Draw) and value.samples is not None
    )


def next_samples(draw: Draw) -> Samples:
    """Those of the first row of a draw that has `samples`."""
    assert draw.samples is not None
    return draw.samples._replace(start=draw.samples.start + draw.first)
