"""Norms over space that share the work with the convolutions around them.

What goes together is decided from the steps as they are bound and tiled in the end, whenever a
program is made of them: a convolution that is moved to the library, or whose reduction is split,
leaves the norm to measure for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fastgan.backends.triton_passes import NormaliseBinding
from fastgan.backends.triton_products import ConvolutionBinding
from fastgan.backends.triton_steps import Binding
from fastgan.kernels import statistics
from fastgan.kernels.normalise import configs
from fastgan.kernels.types import Config
from fastgan.plan import Plan, norms


def measured_by(
    plan: Plan, steps: Sequence[object], tilings: Mapping[int, Config]
) -> dict[int, int]:
    """Of each norm (by its index) the convolution that measures its input.

    Args:
        plan: what they are steps of.
        steps: those on a kernel are a Binding.
        tilings: of steps by index; the default where there is none.
    """
    return {
        norm: maker
        for norm, maker in _candidates(plan, steps).items()
        if statistics_size(steps[maker], tilings.get(maker)) > 0
    }


def statistics_size(binding: object, tiling: Config | None) -> int:
    """The float32 that the statistics of a convolution's result take; 0: it makes none."""
    assert isinstance(binding, ConvolutionBinding)
    return binding.statistics_size(tiling or binding.default)


def role(index: int, plan: Plan, steps: Sequence[object], tilings: Mapping[int, Config]) -> str:
    """What a step does for a norm, or has done for it, as far as its time depends on it."""
    pairs = _candidates(plan, steps)
    if index in pairs.values():
        return "measures"
    maker = pairs.get(index)
    given = maker is not None and statistics_size(steps[maker], tilings.get(maker)) > 0
    return "measured" if given else ""


def _candidates(plan: Plan, steps: Sequence[object]) -> dict[int, int]:
    pairs = norms.measured_by(plan).items()
    return {
        norm: maker
        for norm, maker in pairs
        if isinstance(steps[norm], NormaliseBinding)
        and isinstance(steps[maker], ConvolutionBinding)
    }


# Measuring ----------------------------------------------------------------------------------------


def until_measured(
    binding: Binding, views: list[Tensor], out: Tensor, tiling: Config
) -> Callable[[], object]:
    """A convolution's launches until its result and the statistics of that are there."""
    assert isinstance(binding, ConvolutionBinding)
    size = binding.statistics_size(tiling)
    memory = torch.empty(size, device=out.device) if size else None
    prepared = binding.prepare(views, out, tiling, statistics=memory)
    if prepared.statistics is not None:
        return prepared.run
    measure = measuring(out)

    def run() -> None:
        prepared.run()
        measure()

    return run


def measuring(x: Tensor) -> Callable[[], object]:
    """The launch that measures images [N, C, H, W], as a norm has it made for itself."""
    return statistics.prepare(x, configs(x.shape[1])[0])[1].run


def measured(x: Tensor) -> statistics.Statistics:
    """Of images [N, C, H, W]."""
    found, call = statistics.prepare(x, configs(x.shape[1])[0])
    call.run()
    return found
