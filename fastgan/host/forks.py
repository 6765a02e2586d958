"""fork(): what a child has of a process that has run a model, and what it can't have.

A child has the thread that forked and no other. So what stands on threads is ended before the fork
and begun anew on both sides where that can be had (OpenMP), begun anew in the child (ONNX Runtime's
sessions, locks that a thread of the parent may have held), or refused there (a GPU, which knows the
parent alone). The native part's threads look after themselves (csrc/workers.h). ONNX Runtime's exit
handlers, which wait for a thread of its own once it has been imported, are left out in a child.

Imported by whatever runs a model; the hooks hold from then on.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from typing import Any, TypeVar

import torch

from fastgan.errors import BackendError

_T = TypeVar("_T")

_INSTEAD = "use multiprocessing's 'spawn' or 'forkserver', and load the model in the child"

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_left: weakref.WeakSet[Any] = weakref.WeakSet()


def renewed(lock: _T) -> _T:
    """A lock that is free in a forked child, whichever thread of the parent holds it."""
    _locks.add(lock)
    return lock


def never_freed_in_a_child(thing: _T) -> _T:
    """Something whose end waits for threads, which a forked child does not have."""
    _left.add(thing)
    return thing


def check(device: torch.device) -> None:
    """Refuse a GPU that the parent of this process has used.

    Raises:
        BackendError: this is a forked child, and CUDA's state is its parent's.
    """
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        found = f"{device} in a forked child of a process that has used CUDA"
        raise BackendError("device", found, "a process of its own", _INSTEAD)


def _end_openmp_threads(library: Any) -> None:
    """End the forking thread's OpenMP threads, which its next parallel region starts again.

    Else a child waits for them without end in its own first one (GCC bug 60035). OpenMP 5.0,
    section 3.6: `omp_pause_resource_all`, here with `omp_pause_soft`.
    """
    library.omp_pause_resource_all(1)


def _leave_early() -> None:
    """End this process, when it ends, before the C exit handlers that it has from its parent.

    By then Python has run its own and written what it held, and C's streams are written here. What
    is registered last runs first, and `on_exit` (glibc) gives the exit status to `_exit`.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit") and hasattr(library, "__cxa_atexit"):
        library.on_exit(library._exit, None)
        library.__cxa_atexit(library.fflush, None, None)


def _in_child() -> None:
    if "onnxruntime" in sys.modules:
        _leave_early()
    for lock in list(_locks):
        lock._at_fork_reinit()
    for thing in list(_left):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _register() -> None:
    # Of GCC's runtime alone, found as torch's own library finds it: LLVM's, which has this function
    # too, starts its threads anew in a child by itself.
    library = ctypes.CDLL(torch._C.__file__)
    if hasattr(library, "omp_pause_resource_all") and not hasattr(library, "__kmpc_fork_call"):
        os.register_at_fork(before=lambda: _end_openmp_threads(library))
    os.register_at_fork(after_in_child=_in_child)


if hasattr(os, "fork"):
    _register()
