"""The ordered table of backends, and the choice among them."""

from __future__ import annotations

import importlib

from fastgan.engine.base import Backend, Executable, Session, Target
from fastgan.errors import ArgumentError, BackendError, Refusal
from fastgan.model.opened import Model

__all__ = ["TABLE", "Backend", "Executable", "Session", "Target", "choose", "get"]

#: Backends from first choice to last, and the module whose `BACKEND` each is.
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
    backend: Backend = importlib.import_module(TABLE[name]).BACKEND
    return backend


def choose(
    model: Model, target: Target, wanted: str = "auto"
) -> tuple[Session, tuple[Refusal, ...]]:
    """A session of the first backend that takes the model, and the refusals of those before it.

    Args:
        model, target: what to run, and where.
        wanted: the name of a backend, or "auto" for the whole table.

    Raises:
        BackendError: no backend takes it; every refusal is in the message.
        ArgumentError: no backend has that name.
    """
    refusals: list[Refusal] = []
    for name in TABLE if wanted == "auto" else [wanted]:
        backend, kind = get(name), target.device.type
        if wanted == "auto" and kind not in backend.devices:
            needed = " or ".join(backend.devices)
            refusals.append(Refusal(name, "device", str(target.device), needed))
            continue
        opened = backend.open(model, target)
        if isinstance(opened, Session):
            passed_over = (r for r in refusals if kind in get(r.backend).devices)
            opened.passed_over = tuple(passed_over)
            return opened, tuple(refusals)
        refusals.append(opened)
    reasons = "; ".join(str(refusal) for refusal in refusals)
    raise BackendError(
        f"{model.name} on {target}", f"no backend that takes it ({reasons})", "one that does"
    )
