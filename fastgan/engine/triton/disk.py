"""What was measured and checked on this GPU, kept on disk: a step's tiling or library op; verdicts.

One file for each GPU, driver, Triton version and state of the kernels' sources, so that nothing
measured under other conditions is ever used. Without a file the kernels' default tilings serve.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from fastgan.engine import device as devices
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.trials import ALONE, Sharing
from fastgan.host import files
from fastgan.kernels.types import Config

log = logging.getLogger("fastgan")

LIBRARY = "library"
Choice: TypeAlias = "Config | str"
Tables: TypeAlias = "dict[str, dict[str, Any]]"


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
