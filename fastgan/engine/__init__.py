"""The ordered table of backends, and the choice among them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from fastgan.engine.base import Backend, Executable, Target
from fastgan.errors import ArgumentError, BackendError, Refusal
from fastgan.model.file import ModelFile

__all__ = ["TABLE", "Backend", "Executable", "Target", "choose", "get"]

#: Backends from first choice to last, and the module that each is.
TABLE = {
    "triton": "fastgan.engine.triton.backend",
    "torch": "fastgan.engine.library.backend",
    "ort": "fastgan.engine.ort.backend",
}


def get(name: str) -> Backend:
    """The backend of this name.

    Raises:
        ArgumentError: if there is none.
    """
    if name not in TABLE:
        raise ArgumentError("backend", repr(name), f"'auto', {', '.join(map(repr, TABLE))}")
    return cast(Backend, importlib.import_module(TABLE[name]))


def choose(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]], wanted: str = "auto"
) -> tuple[Backend, tuple[Refusal, ...]]:
    """The first backend of the table that takes the model, and the refusals of those before it.

    Args:
        model, target, shapes: what to run, where, and on inputs of which shapes.
        wanted: the name of a backend, or "auto" for the whole table.

    Raises:
        BackendError: no backend takes it; every refusal is in the message.
        ArgumentError: no backend has that name.
    """
    names = list(TABLE) if wanted == "auto" else [wanted]
    refusals: list[Refusal] = []
    for name in names:
        backend = get(name)
        if wanted == "auto" and target.device.type not in backend.devices:
            needed = " or ".join(backend.devices)
            refusal: Refusal | None = Refusal(name, "device", str(target.device), needed)
        else:
            refusal = backend.accepts(model, target, shapes)
        if refusal is None:
            return backend, tuple(refusals)
        refusals.append(refusal)
    reasons = "; ".join(str(refusal) for refusal in refusals)
    raise BackendError(
        f"{model.name} on {target}", f"no backend that takes it ({reasons})", "one that does"
    )
