"""Steps that share a norm, for the tuner: what each is timed with, until the same work is done.

A convolution before a norm is timed until the statistics of its result are there, one behind a norm
from before that is applied, whoever does it; so that every candidate, the library op too, is timed
for as much as it spares the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.base import Target
from fastgan.engine.triton import norms as triton_norms
from fastgan.engine.triton.binding import Binding, as_image
from fastgan.engine.triton.passes import NormaliseBinding
from fastgan.engine.triton.products import ConvolutionBinding
from fastgan.images.format import ImageFormat
from fastgan.kernels import statistics
from fastgan.kernels.e4m3 import as_codes, values_of
from fastgan.kernels.normalise import configs
from fastgan.kernels.types import Config
from fastgan.plan import Plan


@dataclass(frozen=True)
class Sharing:
    """What a step does for a norm, or has done for it, as far as its time depends on it.

    Attributes:
        measures: whether the statistics of its result are wanted.
        measured: whether it is a norm that is given those of its input.
        applies: the norm of its input, which it may apply itself; or None.
    """

    measures: bool = False
    measured: bool = False
    applies: NormaliseBinding | None = None

    @property
    def key(self) -> str:
        """What sets the step's problem apart from others'."""
        words = ["measures"] if self.measures else []
        words += ["measured"] if self.measured else []
        if self.applies is not None:
            step = self.applies.step
            words += ["applies", str(step.epilogue), str(self.applies.read_shapes[1:])]
        return " ".join(words)

    def candidates(self, tilings: Sequence[Config]) -> list[Config]:
        """Those to measure, where a norm may be applied in one place or the other."""
        if self.applies is None:
            return list(tilings)
        return [tiling.with_(normalises=n) for tiling in tilings for n in (False, True)]


ALONE = Sharing()


def sharing(
    index: int, plan: Plan, steps: Sequence[object], tilings: Mapping[int, Config]
) -> Sharing:
    """Of a step; for the arguments see `triton_norms.measured_by`."""
    makers = triton_norms.measurable(plan, steps)
    maker = makers.get(index)
    norm = next(
        (n for n, reader in triton_norms.appliable(plan, steps).items() if reader == index), None
    )
    applies = None if norm is None else steps[norm]
    assert applies is None or isinstance(applies, NormaliseBinding)
    return Sharing(
        measures=index in makers.values(),
        measured=maker is not None
        and triton_norms.statistics_size(steps[maker], tilings.get(maker)) > 0,
        applies=applies,
    )


class Trials:
    """One step on random tensors, in all the ways that do the same work: measured, and checked.

    Attributes:
        inputs: what the step's own op reads, a norm before it applied.
        finite: whether the library op makes finite numbers of them, as far as was seen.
    """

    finite = True
    _statistics: statistics.Statistics | None = None

    def __init__(self, binding: Binding, shared: Sharing) -> None:
        self._binding, self._shared = binding, shared
        self._tensors = [_random(shape, binding.target) for shape in binding.read_shapes]
        self.inputs = list(self._tensors)
        if binding.input_high is not None and not binding.rounds:
            codes = as_codes(self._tensors[0], binding.input_high)
            self._tensors[0] = codes
            self.inputs[0] = values_of(codes, binding.input_high).to(binding.target.dtype)
        norm = shared.applies
        if norm is None:
            return
        rest = [_random(shape, binding.target) for shape in norm.read_shapes[1:]]
        views = norm.views([self._tensors[0], *rest])
        applied = torch.empty_like(views[0])
        prepared = norm.prepare(views, applied)
        prepared.run()
        self._apply = prepared.calls[-1]
        self.inputs[0] = norm.present(applied)
        self._normalised, calls = norm.unapplied(views)
        for call in calls:
            call.run()

    def library(self, call: Callable[..., Any]) -> Tensor:
        """What the library op makes, and what it leaves to others."""
        if self._shared.applies is not None:
            self._apply.run()
        result = call(*self.inputs)
        assert isinstance(result, Tensor)
        if self._shared.measures:
            statistics.prepare(as_image(result), _pass(result.shape[1]))[1].run()
        return result

    def kernel(
        self,
        out: Tensor,
        tiling: Config,
        image: ImageFormat | None = None,
        flag: Tensor | None = None,
    ) -> Callable[[], object]:
        """The step's kernel into `out`, tiled like this, and what it leaves to others."""
        binding, shared, norm = self._binding, self._shared, {}
        if shared.measured:
            found, call = statistics.prepare(
                as_image(self.inputs[0]), _pass(self.inputs[0].shape[1])
            )
            call.run()
            norm["statistics"] = found
        if shared.measures:
            assert isinstance(binding, ConvolutionBinding)
            size = binding.statistics_size(tiling)
            norm["statistics"] = torch.empty(size, device=out.device) if size else None
        if tiling.normalises:
            norm["normalised"] = self._normalised
        applied = shared.applies is not None and not tiling.normalises
        views = binding.views(self.inputs if applied else self._tensors)
        prepared = binding.prepare(views, out, tiling, image, flag, **norm)
        self._statistics = prepared.statistics
        calls = list(prepared.calls)
        if applied:
            calls.insert(0, self._apply)
        if shared.measures and prepared.statistics is None:
            calls.append(statistics.prepare(out, _pass(out.shape[1]))[1])

        def run() -> None:
            for call in calls:
                call.run()

        return run

    def wrong_statistics(self, out: Tensor) -> str | None:
        """How the statistics that the kernel made differ from those of its result, or None."""
        found = self._statistics
        if found is None:
            return None
        counts = found.counts[..., None]
        mean = (found.means * counts).sum(1) / counts.sum(1)
        apart = (found.means - mean[:, None]).square() * counts
        variance = (found.deviations + apart).sum(1) / counts.sum(1)
        values = out.float().flatten(2)
        expected = (values.mean(2), values.var(2, unbiased=False))
        for made, right in zip((mean, variance), expected, strict=True):
            if not bool(((made - right).abs() <= 1e-3 * (1 + right.abs())).all()):
                return "its statistics are not those of its result"
        return None

    def spoil(self) -> None:
        """Put a NaN among what is read."""
        for tensor in (self._tensors[0], self.inputs[0]):
            tensor[(0,) * tensor.dim()] = torch.nan


def _pass(channels: int) -> Config:
    """How a norm tiles the pass that measures its input."""
    return configs(channels)[0]


def _random(shape: tuple[int, ...], target: Target) -> Tensor:
    """Never zeros: real data moves real bits."""
    x = torch.randn(shape, device=target.device).to(target.dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
