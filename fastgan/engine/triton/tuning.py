"""What was measured to be fastest on this GPU, kept on disk: a tiling, or the library op, per step.

One file for each GPU, driver, Triton version and state of the kernels' sources, so that nothing
measured under other conditions is ever used. Without a file the kernels' default tilings serve.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from fastgan.engine import device as devices
from fastgan.engine.library import operators as library
from fastgan.engine.triton import check
from fastgan.engine.triton.binding import Binding, channels_last, image_of
from fastgan.engine.triton.check import failures
from fastgan.engine.triton.trials import ALONE, Sharing, Trials
from fastgan.host import files
from fastgan.kernels import tiles
from fastgan.kernels.e4m3 import E4M3
from fastgan.kernels.types import Config, capability_of

if TYPE_CHECKING:
    from fastgan.images.format import ImageFormat

log = logging.getLogger("fastgan")

#: The library op is one launch more for whoever reads its result, so it has to be clearly faster.
_CLEARLY = 0.97

LIBRARY = "library"
Choice: TypeAlias = "Config | str"
Tables: TypeAlias = "dict[str, dict[str, Any]]"
Measure = Callable[[Callable[[], object]], float]


# On disk ------------------------------------------------------------------------------------------


class Cache:
    """Choices by a step's key, and seconds per image by a model's key and batch size.

    Args:
        path: the file; a missing one is empty, a damaged one too, with one warning.
        environment: what was measured on; it is written beside the choices and has to be the same.
    """

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self.path, self.environment = path, environment
        self._data = self._read()

    def _read(self, again: bool = False) -> Tables:
        empty: Tables = {"steps": {}, "batches": {}, "checked": {}}
        try:
            data = json.loads(self.path.read_text())
            if data["environment"] != self.environment:
                raise ValueError("it is of another environment")
            for choice in data["steps"].values():
                _choice(choice)
            for times in data["batches"].values():
                for batch, seconds in times.items():
                    if not (int(batch) > 0 and float(seconds) > 0):
                        raise ValueError("a time is not positive")
            data.setdefault("checked", {})
            for verdict in data["checked"].values():
                if not isinstance(verdict, str):
                    raise ValueError("a verdict is no text")
            return {name: dict(data[name]) for name in empty}
        except FileNotFoundError:
            return empty
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not again:
                log.warning("%s: ignored, since it is damaged: %s", self.path, error)
            return empty

    def step(self, key: str) -> Choice | None:
        """What is fastest for a step, or None if that was not measured."""
        found = self._data["steps"].get(key)
        return None if found is None else _choice(found)

    def put_step(self, key: str, choice: Choice, seconds: dict[str, float]) -> None:
        """Keep a choice and the seconds of each candidate."""
        value = choice if isinstance(choice, str) else asdict(choice)
        self._change(lambda on: on["steps"].update({key: {"choice": value, "seconds": seconds}}))

    def batch(self, key: str) -> int | None:
        """The batch size that took the least time per image, or None if none was measured."""
        times = self._data["batches"].get(key)
        return int(min(times, key=lambda batch: times[batch])) if times else None

    def put_batch(self, key: str, batch: int, seconds: float) -> None:
        """Keep the seconds per image of a batch size."""
        self._change(lambda on: on["batches"].setdefault(key, {}).update({str(batch): seconds}))

    def verdict(self, key: str) -> str | None:
        """What checking said of a step and tiling: "ok", or what is wrong; None: never checked."""
        found: str | None = self._data["checked"].get(key)
        return found

    def put_verdict(self, key: str, verdict: str | None) -> None:
        """Keep it; None: forget it."""
        if verdict is None:
            self._change(lambda on: on["checked"].pop(key, None))
        else:
            self._change(lambda on: on["checked"].update({key: verdict}))

    def forget_verdicts(self) -> None:
        """Check everything again."""
        self._change(lambda on: on["checked"].clear())

    def _change(self, change: Callable[[Tables], object]) -> None:
        """Change what is in the file by now, which other processes write as well."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.alone_in(self.path.parent):
                if self.path.exists():
                    self._data = self._read(again=True)
                change(self._data)
                text = json.dumps({"environment": self.environment, **self._data}, indent=1)
                with files.replacing(self.path) as part:
                    part.write_text(text)
        except OSError as error:
            change(self._data)
            log.warning("%s: not written: %s", self.path, error)


def _choice(found: dict[str, Any]) -> Choice:
    choice = found["choice"]
    if choice == LIBRARY:
        return LIBRARY
    config = Config(**choice)
    if not all(isinstance(value, int) and value >= 0 for value in choice.values()):
        raise ValueError("a tiling is not of whole numbers")
    return config


def folder() -> Path:
    """Where the files lie."""
    return files.cache("tuning")


def environment(device: torch.device) -> dict[str, str]:
    """What a measurement depends on beside the step itself."""
    import triton

    try:
        driver = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        driver = f"CUDA {torch.version.cuda}"
    return {
        "gpu": devices.of(device).name,
        "driver": driver,
        "triton": triton.__version__,
        "torch": torch.__version__,
        "kernels": _sources(),
    }


@lru_cache
def _sources() -> str:
    from fastgan.kernels import types

    digest = hashlib.sha256()
    root = Path(types.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def open_cache(device: torch.device) -> Cache:
    """The cache for this device, read anew where the file has changed."""
    found = environment(device)
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    path = folder() / f"{digest}.json"
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _open(path, tuple(found.items()), changed)


@lru_cache(maxsize=8)
def _open(path: Path, found: tuple[tuple[str, str], ...], changed: int) -> Cache:
    return Cache(path, dict(found))


def step_key(binding: Binding, shared: Sharing = ALONE) -> str:
    """A step's problem, with its part in others': the same for every model that has it."""
    step = binding.step
    weight = tuple(binding.weight_shape)
    precision = binding.target.precision
    if precision == "fp8":
        # Its other layers are those of fp16. A scale changes no time.
        eight = (binding.input_high is not None, binding.output_high is not None, binding.rounds)
        precision = f"fp8{eight}" if binding.eight_bit else "fp16"
    parts = [step.op, precision, binding.input, binding.output, weight]
    parts += [sorted(step.attributes.items()), str(step.epilogue)]
    parts += [binding.places, binding.read_shapes, sorted(binding.constants)]
    parts += [shared.key] if shared.key else []
    return " ".join(str(part).replace(" ", "") for part in parts)


def model_key(bindings: Iterable[Binding | str], precision: str) -> str:
    """A model, whatever its batch size: the steps' problems for one image."""
    digest = hashlib.sha256(precision.encode())
    for bound in bindings:
        if not isinstance(bound, str):
            parts = (bound.step.op, bound.input[1:], bound.output[1:], tuple(bound.weight_shape))
            digest.update(str(parts).encode())
    return digest.hexdigest()[:16]


# Measuring ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step's candidates took, in seconds by name, and the fastest."""

    choice: Choice
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
    written = None if image is None else _destination(binding, image)
    op = library.bind(binding.step, weights, opset, target.device, target.dtype)

    def by_library() -> object:
        result = trials.library(op.call)
        if written is not None and image is not None:
            image_of(result, written, image, None).run()
        return result

    seconds: dict[str, float] = {}
    try:
        if not binding.eight_bit:  # another precision, for another batch size, is no choice
            seconds[LIBRARY] = measure(by_library)
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
        return Outcome(LIBRARY, seconds) if LIBRARY in seconds else None
    best = faster[-1]
    if seconds.get(LIBRARY, math.inf) < _CLEARLY * seconds[best.label]:
        return Outcome(LIBRARY, seconds)
    return Outcome(best, seconds)


def _candidates(binding: Binding, shared: Sharing, faster: Sequence[Config]) -> Iterator[Config]:
    """The tilings to measure; last what may make the best of them better still."""
    capability = capability_of(binding.target.device)
    yield from shared.candidates(binding.configs(capability))
    if faster and binding.dependent:
        yield from tiles.refinements(faster[-1], capability)


def _destination(binding: Binding, image: ImageFormat) -> Tensor:
    n, c, h, w = binding.shape
    if image.format == "uint8":
        return torch.empty((n, h, w, c), dtype=torch.uint8, device=binding.target.device)
    return torch.empty((n, c, h, w), dtype=torch.float32, device=binding.target.device)


def _pass_over(binding: Binding, what: str, error: Exception) -> None:
    """Without a candidate that can't be measured; nothing can where memory or the GPU fails."""
    if failures.is_memory(error) or failures.is_sticky(error):
        raise error
    log.debug("%s: %s can't be measured: %s", binding.step.op, what, error)
