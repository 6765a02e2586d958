"""Norms over space that share the work with the convolutions around them.

A convolution measures what it writes for the norm behind it, and applies a norm to what it reads.
Which of them do is decided from the steps as they are bound and tiled in the end, whenever a
program is made of them: a convolution that is moved to the library, or whose reduction is split,
leaves the norm to measure for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.arena import Lifetime
from fastgan.engine.triton.passes import NormaliseBinding
from fastgan.engine.triton.products import ConvBinding, ConvolutionBinding
from fastgan.kernels import prologue
from fastgan.kernels.prologue import Normalised
from fastgan.kernels.statistics import Statistics
from fastgan.kernels.types import Config
from fastgan.plan import Plan, Step, norms


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
        for norm, maker in measurable(plan, steps).items()
        if statistics_size(steps[maker], tilings.get(maker)) > 0
    }


def statistics_size(binding: object, tiling: Config | None) -> int:
    """The float32 that the statistics of a convolution's result take; 0: it makes none."""
    assert isinstance(binding, ConvolutionBinding)
    return binding.statistics_size(tiling or binding.default)


def applied_by(
    plan: Plan, steps: Sequence[object], tilings: Mapping[int, Config]
) -> dict[int, int]:
    """Of each norm (by its index) the convolution that applies it; arguments as above."""
    found = {}
    for norm, reader in appliable(plan, steps).items():
        binding = steps[reader]
        assert isinstance(binding, ConvBinding)
        if binding.normalises(tilings.get(reader)):
            found[norm] = reader
    return found


def measurable(plan: Plan, steps: Sequence[object]) -> dict[int, int]:
    """The pairs of a norm and the convolution before it that are both on kernels."""
    return {
        norm: maker
        for norm, maker in norms.measured_by(plan).items()
        if isinstance(steps[norm], NormaliseBinding)
        and isinstance(steps[maker], ConvolutionBinding)
    }


def appliable(plan: Plan, steps: Sequence[object]) -> dict[int, int]:
    """The pairs of a norm and the convolution behind it that are both on kernels.

    What a convolution reads in 8 bits the norm has to round before, so it applies itself.
    """
    found = {}
    for norm, reader in norms.applied_by(plan).items():
        binding = steps[reader]
        if not isinstance(steps[norm], NormaliseBinding) or not isinstance(binding, ConvBinding):
            continue
        accepted = prologue.accepts(plan.steps[norm].epilogue.activation)
        if accepted and binding.input_high is None:
            found[norm] = reader
    return found


def annotated(
    steps: list[Step], plan: Plan, bindings: Sequence[object], tilings: Mapping[int, Config]
) -> list[Step]:
    """The steps, each norm told who does a part of its work."""
    notes: dict[int, list[str]] = {}
    for norm in measured_by(plan, bindings, tilings):
        notes.setdefault(norm, []).append("measured by the step before")
    for norm in applied_by(plan, bindings, tilings):
        notes.setdefault(norm, []).append("applied by the step that reads it")
    for norm, note in notes.items():
        steps[norm] = replace(steps[norm], note=", ".join(note))
    return steps


class SharedNorms:
    """Those of one program, and what steps have handed on so far.

    Attributes:
        measured_by, applied_by: see the functions.
        statistics: by the step that measures.
        normalised: by the norm.
    """

    def __init__(self, plan: Plan, steps: Sequence[object], tilings: Mapping[int, Config]) -> None:
        self.measured_by = measured_by(plan, steps, tilings)
        self.applied_by = applied_by(plan, steps, tilings)
        self.statistics: dict[int, Statistics | None] = {}
        self.normalised: dict[int, Normalised] = {}
        self._applies = {reader: norm for norm, reader in self.applied_by.items()}
        self._sizes = {
            maker: statistics_size(steps[maker], tilings.get(maker))
            for maker in self.measured_by.values()
        }
        self._memory: dict[int, Tensor] = {}

    @property
    def lifetimes(self) -> list[Lifetime]:
        """Of the statistics, in the program's memory."""
        last = {maker: norm for norm, maker in sorted(self.measured_by.items())}
        return [
            Lifetime(_name(maker), size * 4, maker, last[maker])
            for maker, size in self._sizes.items()
        ]

    def place(self, offsets: Mapping[str, int], memory: Tensor) -> None:
        """Say where these lie in the program's memory, in bytes."""
        for maker, size in self._sizes.items():
            begin = offsets[_name(maker)]
            self._memory[maker] = memory[begin : begin + size * 4].view(torch.float32)

    def taken(self, index: int, static: bool) -> dict[str, Any]:
        """What a step's kernel takes because it shares a norm.

        Args:
            index: of the step.
            static: whether it is prepared once: only then it measures for a norm, which may be
                prepared before the first run.
        """
        shared: dict[str, Any] = {}
        if index in self._applies:
            shared["normalised"] = self.normalised[self._applies[index]]
        if index in self.measured_by:
            shared["statistics"] = self.statistics.get(self.measured_by[index])
        elif index in self._memory and static:
            shared["statistics"] = self._memory[index]
        return shared


def _name(maker: int) -> str:
    """What the arena calls the statistics of a step's result."""
    return f"statistics of step {maker}"
