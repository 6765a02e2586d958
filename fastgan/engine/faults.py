"""What torch raises where a step is bound or run, as an error of ours that names the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from fastgan.errors import ArgumentError, BackendError, FastganError, UnsupportedError

#: What torch and NumPy raise for tensors that do not fit. Whatever else comes out of a step
#: (AttributeError, NameError, AssertionError) is a fault of our own, which is to be seen as one.
FAULTS = (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError, MemoryError)


def fault(origin: Sequence[str], error: Exception) -> Exception:
    """What to raise instead of one of `FAULTS` that came out of a step.

    Args:
        origin: the names of the ONNX nodes that went into the step.
        error: what it raised. Ours is passed on; so is a GPU's lack of memory, after which a batch
            is made again in halves.
    """
    if isinstance(error, (FastganError, torch.cuda.OutOfMemoryError)):
        return error
    where, found = " + ".join(origin), _first_line(error)
    if isinstance(error, IndexError):  # a label or a code that the model's table has no row for
        return ArgumentError(where, found, "indices inside its table")
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in found:
        return BackendError(
            where,
            f"not enough memory ({found})",
            "what fits the memory there is",
            "take a smaller batch_size, or smaller images or tiles",
        )
    return UnsupportedError(where, found, "inputs that fit it")


@contextmanager
def faults_of(origin: Sequence[str]) -> Iterator[None]:
    """Raise what `fault` makes of what is raised inside."""
    try:
        yield
    except FAULTS as error:
        raise fault(origin, error) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
