"""A run of the triton engine that is made ready once: one graph, into the caller's own memory.

The graph copies what lies elsewhere to where its launches read it, draws latents from counters, and
writes the images where they are wanted, and a flag for NaN to memory of the host. So a call sets a
counter, if that stands elsewhere, and launches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.engine.device import Launch
from fastgan.engine.prepared import Run
from fastgan.engine.triton.counters import Counter
from fastgan.engine.triton.work import Place
from fastgan.errors import BackendError
from fastgan.images.format import ImageFormat
from fastgan.inputs.draws import Draw, Samples

if TYPE_CHECKING:
    from fastgan.engine.triton.executable import TritonExecutable


class TritonRun(Run):
    """See the module, and `Run`.

    Args:
        executable: what runs.
        inputs, image, out: as `Executable.prepare` takes them.
    """

    def __init__(
        self,
        executable: TritonExecutable,
        inputs: Mapping[str, Any],
        image: ImageFormat,
        out: Tensor,
    ) -> None:
        self._executable, self._workspace = executable, executable.workspace
        flag = executable.workspace.gpu.flag() if executable.target.dtype != torch.float32 else None
        given: dict[str, Tensor] = {}
        self._draws: dict[str, Draw] = {}
        for name, value in inputs.items():
            if isinstance(value, Draw) and value.samples is not None:
                self._draws[name] = value
            elif isinstance(value, Draw):
                given[name] = value.tensor(out.device)
            else:
                given[name] = value.to(out.device)
        self._flag = None if flag is None else flag.numpy()
        self._place = Place(image, out, given, flag)
        self.tensors, self.draws = given, frozenset(self._draws)
        self._rows = next((draw.shape[0] for draw in self._draws.values()), 0)
        self._counters: list[tuple[Counter, Samples]] = []
        executable.workspace.runs.add(self)

    def __call__(self, seed: int, start: int, behind: Launch | None = None) -> None:
        """See `Run`."""
        executable, place = self._executable, self._place
        work = place.work
        if (
            work is None
            or work.replay is None
            or place.program is not executable.program
            or executable.watched
            or executable.draws_noise
        ):
            with executable.turn():
                self._run_at(seed, start)
                if behind is not None:
                    behind()
            return
        counters = [
            (counter, Samples(s.kind, seed, start, s.stream, s.parameters))
            for counter, s in self._counters
        ]
        try:
            self._workspace.replay(work.replay, counters, self._rows, behind)
        except Exception as error:
            if self._workspace.gpu.being_captured():
                raise BackendError(
                    "a prepared call", "a graph of the caller's own that is being captured",
                    "a stream on which nothing is captured", "capture generate instead",
                ) from error  # fmt: skip
            raise executable.failure(error) from error

    def _run_at(self, seed: int, start: int) -> None:
        """The same by a run that finds out what there is to be known."""
        self._executable.run_at(self._inputs(seed, start), self._place)
        work = self._place.work
        drawn = () if work is None else work.drawn
        self._counters = [(self._workspace.counter(n), self._samples(n)) for n, _ in drawn]

    def _samples(self, name: str) -> Samples:
        samples = self._draws[name].samples
        assert samples is not None
        return samples

    def _inputs(self, seed: int, start: int) -> dict[str, Any]:
        return {**self.tensors, **{n: d.of(seed, start) for n, d in self._draws.items()}}

    def raised(self) -> bool:
        """See `Run.raised`."""
        return self._flag is not None and bool(self._flag[0])

    def lower(self) -> None:
        """See `Run.lower`."""
        if self._flag is not None:
            self._flag[0] = 0

    def make_ready(self) -> None:
        """See `Run.make_ready`."""
        self(0, 0)
        if self._flag is not None:
            self.settle()
            self.lower()  # nobody has asked for these images

    @property
    def repeats(self) -> bool:
        """See `Run.repeats`: a graph can't be a part of the caller's."""
        return not self._workspace.gpu.being_captured()

    def forget(self) -> None:
        """Let go of what a run needs, for lack of memory; the next one makes it anew."""
        self._place.program = self._place.work = None

    def settle(self) -> None:
        """See `Run.settle`."""
        if self._flag is None:
            return
        try:
            self._workspace.gpu.wait()
        except Exception as error:
            raise self._executable.failure(error) from error

    def turn(self) -> contextlib.AbstractContextManager[Any]:
        """See `Run.turn`."""
        return self._workspace.turn()
