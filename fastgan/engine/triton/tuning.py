"""The fastest way of each step, measured on the device: a tiling of its kernel, or the library op.

What is found is kept on disk (`disk`), and used from then on.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fastgan.engine.device import Device
from fastgan.engine.library import operators as library
from fastgan.engine.triton import check, disk
from fastgan.engine.triton.binding import Binding, channels_last, image_of, room_for
from fastgan.engine.triton.check import failures
from fastgan.engine.triton.steps import Steps
from fastgan.engine.triton.trials import ALONE, Sharing, Trials
from fastgan.engine.triton.work import Work
from fastgan.images.format import ImageFormat
from fastgan.kernels import compiling, tiles
from fastgan.kernels.e4m3 import E4M3
from fastgan.kernels.types import Call, Config, capability_of

log = logging.getLogger("fastgan")

#: The library op is one launch more for whoever reads its result, so it has to be clearly faster.
_CLEARLY = 0.97

#: Seconds of one run.
Measure = Callable[[Callable[[], object]], float]


@dataclass(frozen=True, slots=True)
class Tuner:
    """Measures what was not measured yet, keeps it on disk, and has it used.

    Attributes:
        steps: of a plan.
        gpu: what they run on.
        image: the format to be fast for; None: all outputs.
        measure: seconds of a run; by events on the GPU if None.
        use: takes what is fastest for a step, where that is not what it has.
    """

    steps: Steps
    gpu: Device
    image: ImageFormat | None
    measure: Measure | None
    use: Callable[[int, disk.Choice], None]

    def run(self, seconds: float, whole: Callable[[], Work]) -> int:
        """Measure the steps, and one run with what was found.

        Args:
            seconds: how long it may take; steps not begun by then keep what they have.
            whole: makes a run of the whole plan.

        Returns:
            How many steps were measured.
        """
        steps, plan = self.steps, self.steps.plan
        measured = self._steps(time.monotonic() + seconds)
        work = whole()
        batch = max((plan.buffers[n].shape[0] for n in plan.inputs), default=1)
        replays = self.measure or partial(self.gpu.seconds, captured=False)
        per_image = replays(work.replay or work.launch) / batch
        disk.open_cache(steps.target.device).put_batch(steps.key, batch, per_image)
        return measured

    def _steps(self, deadline: float) -> int:
        steps, measure = self.steps, self.measure or self.gpu.seconds
        steps.fill_scales()
        cache, measured = disk.open_cache(steps.target.device), 0
        if self.gpu.is_gpu and time.monotonic() <= deadline:
            compiling.ahead(self._to_be_tried(cache), deadline)
        for index, binding in steps.offered():
            if time.monotonic() > deadline or not binding.tunable:
                steps.set(index, None)
                continue
            shared = steps.sharing(index)
            key = disk.step_key(binding, shared)
            choice = cache.step(key)
            if choice is None:
                steps.running = index
                given = (binding, dict(steps.plan.weights), steps.opset, self._written(binding))
                try:
                    outcome = fastest(*given, measure, deadline, shared)
                except BaseException:
                    steps.set(index, None)
                    raise
                if outcome is None:
                    steps.set(index, None)
                    continue
                measured, choice = measured + 1, outcome.choice
                cache.put_step(key, choice, outcome.seconds)
            if choice != steps.tilings.get(index):  # else what was captured stays
                self.use(index, choice)
        return measured

    def _written(self, binding: Binding) -> ImageFormat | None:
        """The format that a step writes while it is measured."""
        last = binding.step.outputs[0] in self.steps.plan.outputs and binding.formats
        return self.image if last and len(binding.output) == 4 else None

    def _to_be_tried(self, cache: disk.Cache) -> Iterator[Call]:
        """What is launched of the steps that share no norm: as far as it is known by now."""
        steps = self.steps
        for index, binding in steps.offered():
            shared = steps.sharing(index)
            known = cache.step(disk.step_key(binding, shared))
            if known is None and binding.tunable and shared == ALONE:
                for tiling in binding.configs(capability_of(steps.target.device)):
                    with contextlib.suppress(Exception):  # it is met again as it is measured
                        yield from binding.launched(tiling, self._written(binding))
            steps.set(index, None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step's candidates took, in seconds by name, and the fastest."""

    choice: disk.Choice
    seconds: dict[str, float]


def fastest(
    binding: Binding,
    weights: dict[str, Tensor],
    opset: int,
    image: ImageFormat | None,
    measure: Measure,
    deadline: float = math.inf,
    shared: Sharing = ALONE,
) -> Outcome | None:
    """Measure a step's kernel in all its tilings, and the library op.

    A candidate that fails, or whose result is not the library's within the precision, is out.

    Args:
        image: the format that the step writes, where it is the last.
        measure: seconds of a run.
        deadline: of `time.monotonic()`; candidates not begun by then are left out.
        shared: what it does for a norm, or has done for it.

    Returns:
        None if the default tiling could not be measured.
    """
    target = binding.target
    trials = Trials(binding, shared)
    plain = torch.empty(
        binding.shape,
        dtype=target.dtype if binding.output_high is None else E4M3,
        device=target.device,
    )
    plain = plain.as_strided(binding.shape, channels_last(binding.shape))
    written = None if image is None else room_for(binding.shape, image, target.device)
    op = library.bind(binding.step, weights, opset, target.device, target.dtype)

    def by_library() -> object:
        result = trials.library(op.call)
        if written is not None and image is not None:
            image_of(result, written, image, None).run()
        return result

    seconds: dict[str, float] = {}
    try:
        if not binding.eight_bit:  # another precision, for another batch size, is no choice
            seconds[disk.LIBRARY] = measure(by_library)
    except Exception as error:
        _pass_over(binding, "the library op", error)
    faster: list[Config] = []  # each than the one before
    for config in _candidates(binding, shared, faster):
        if faster and time.monotonic() > deadline:
            break
        try:
            checked = check.Subject(binding, config, shared, weights, opset, image)
            fault = check.fault_of(checked)
            if fault is not None:
                log.warning("%s: %s is not taken: %s", binding.step.op, config.label, fault)
                continue
            out = plain if written is None else written
            seconds[config.label] = measure(trials.kernel(out, config, image))
        except Exception as error:
            _pass_over(binding, config.label, error)
            continue
        if not faster or seconds[config.label] < seconds[faster[-1].label]:
            faster.append(config)
    if not faster:
        return Outcome(disk.LIBRARY, seconds) if disk.LIBRARY in seconds else None
    best = faster[-1]
    if seconds.get(disk.LIBRARY, math.inf) < _CLEARLY * seconds[best.label]:
        return Outcome(disk.LIBRARY, seconds)
    return Outcome(best, seconds)


def _candidates(binding: Binding, shared: Sharing, faster: Sequence[Config]) -> Iterator[Config]:
    """The tilings to measure; last what may make the best of them better still."""
    capability = capability_of(binding.target.device)
    yield from shared.candidates(binding.configs(capability))
    if faster and binding.dependent:
        yield from tiles.refinements(faster[-1], capability)


def _pass_over(binding: Binding, what: str, error: Exception) -> None:
    """Without a candidate that can't be measured; nothing can where memory or the GPU fails."""
    if failures.is_memory(error) or failures.is_sticky(error):
        raise error
    log.debug("%s: %s can't be measured: %s", binding.step.op, what, error)
