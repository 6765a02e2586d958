"""Which kernels of a plan are believed on this GPU: those that were checked, there and as they run.

A verdict is kept on disk (`disk.Cache`), so that the next process neither checks again what was
right nor tries again what was wrong, or what a process did not come back from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.device import Device
from fastgan.engine.launches import Launches
from fastgan.engine.triton import check, disk
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.check import failures
from fastgan.engine.triton.steps import Steps
from fastgan.engine.triton.work import LaunchError
from fastgan.images.format import ImageFormat
from fastgan.inputs.draws import Draw

log = logging.getLogger("fastgan")


class WrongResult(Exception):
    """A kernel ran, and what it made is not what the library makes."""


class KnownFault(Exception):
    """What an earlier run has found out about a kernel on this GPU."""


class Belief:
    """Of one plan. What is wrong with a step is raised as a LaunchError with its index.

    Args:
        steps: what is to be believed.
        gpu: where.
        names: of the steps, for people.
    """

    def __init__(self, steps: Steps, gpu: Device, names: Launches) -> None:
        self._steps, self._gpu, self._names = steps, gpu, names
        self._believed: set[tuple[int, str]] = set()  # steps as they were checked
        self._trusted: set[ImageFormat | None] = set()  # formats of which all were
        self._compared: set[ImageFormat] = set()

    def doubt(self) -> None:
        """Look again, at the next run, at what has not been checked as it runs by then."""
        self._trusted.clear()

    def believe(self, image: ImageFormat | None) -> None:
        """Check what has not been checked on this GPU before.

        image: the format that the last step is to write; None: its own result.
        """
        if image in self._trusted or not self._wanted():
            return
        for index, binding in self._steps.on_kernels:
            last = self._written(binding, image)
            key = (index, f"{self._steps.tiling(index).label} {last.format if last else ''}")
            if key not in self._believed:
                self._steps.fill_scales()
                self._check(index, binding, last)
                self._believed.add(key)
        self._trusted.add(image)

    def examine(self, image: ImageFormat | None) -> Iterator[dict[str, Any]]:
        """Check each step on a kernel.

        Yields:
            Of each, before: {"what", "kernel", "format"}; and after: those, "verdict", "seconds".
        """
        self._steps.fill_scales()
        for index, binding in self._steps.on_kernels:
            last = self._written(binding, image)
            row = {"what": self._names.name(index), "kernel": binding.labelled.kernel}
            row["format"] = last.format if last else ""
            yield dict(row)
            began, verdict = time.monotonic(), check.OK
            try:
                self._check(index, binding, last)
            except LaunchError as error:
                if failures.is_sticky(error):
                    raise error.reason from None
                verdict = failures.first_line(error.reason)
            yield {**row, "verdict": verdict, "seconds": time.monotonic() - began}

    def compares(self, image: ImageFormat) -> bool:
        """Whether the first images in a format are still to be looked at as a whole."""
        return image not in self._compared and self._wanted()

    def fault_of_image(
        self, image: ImageFormat, inputs: Mapping[str, Tensor | Draw], made: Tensor, batch: str
    ) -> str | None:
        """What is wrong with images as a whole, beside the library's, or None.

        batch: of the inputs; a verdict is about it.
        """
        self._compared.add(image)
        steps, cache = self._steps, self._cache()
        key = f"image {steps.key} {steps.target.precision} {image.format} {batch}"
        verdict = cache.verdict(key)
        if verdict is None:
            tensors = {
                name: value.tensor(steps.target.device) if isinstance(value, Draw) else value
                for name, value in inputs.items()
            }
            place = (steps.plan, steps.opset, steps.target)
            try:
                verdict = check.fault_of_image(*place, tensors, image, made) or check.OK
            except Exception as error:
                if not failures.is_memory(error):
                    raise
                log.info("images %s are not compared, for lack of memory", image.name)
                return None
            cache.put_verdict(key, verdict)
        return None if verdict == check.OK else verdict

    def refute(self, index: int, verdict: str) -> None:
        """A step's kernel failed in a run: the next process shall not compile and warn again."""
        if 0 <= index < len(self._steps.bindings) and index in dict(self._steps.on_kernels):
            self._cache().put_verdict(self._key(index, None), verdict)

    def _wanted(self) -> bool:
        return self._gpu.is_gpu and check.wanted() and not self._gpu.being_captured()

    def _check(self, index: int, binding: Binding, image: ImageFormat | None) -> None:
        steps, cache, key = self._steps, self._cache(), self._key(index, image)
        found = cache.verdict(key)
        if found == check.OK:
            return
        if found is not None and not found.startswith("running"):
            raise LaunchError(index, KnownFault(found))
        if found is not None and check.died(found):
            found = "a process that tried it did not come back"
            cache.put_verdict(key, found)
            raise LaunchError(index, KnownFault(found))
        steps.running = index
        cache.put_verdict(key, check.running())
        subject = check.Subject(
            binding,
            steps.tiling(index),
            steps.sharing(index),
            dict(steps.plan.weights),
            steps.opset,
            image,
            flagged=image is not None and steps.target.dtype != torch.float32,
        )
        verdict = None
        try:
            with steps.target.settings(benchmark=True):
                verdict = check.fault_of(subject) or check.OK
        except Exception as error:
            if not failures.is_memory(error) and not failures.lacks_compiler(error):
                verdict = failures.first_line(error)
            raise LaunchError(index, error) from error
        finally:
            # What could not be judged is judged another time.
            self._cache().put_verdict(key, verdict)
        steps.running = -2
        if verdict != check.OK:
            raise LaunchError(index, WrongResult(verdict))

    def _written(self, binding: Binding, image: ImageFormat | None) -> ImageFormat | None:
        """The format that a step writes, where it writes the images themselves."""
        if image is None or image.name not in binding.step.outputs:
            return None
        read = any(image.name in step.inputs for step in self._steps.plan.steps)
        return image if binding.formats and len(binding.output) == 4 and not read else None

    def _key(self, index: int, image: ImageFormat | None) -> str:
        """What a verdict is about: a step's problem, its tiling, and what it writes."""
        steps = self._steps
        problem = disk.step_key(steps.binding(index), steps.sharing(index))
        parts = [problem, steps.tiling(index).label.replace(" ", "_")]
        return " ".join([*parts, image.format] if image is not None else parts)

    def _cache(self) -> disk.Cache:
        return disk.open_cache(self._steps.target.device)
