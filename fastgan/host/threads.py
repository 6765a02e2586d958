"""How many CPU threads a call computes with, apart from every other call of the process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def limited(n: int | None) -> Iterator[None]:
    """Meanwhile PyTorch's operators, and ours, run on so many threads when called from this one.

    Args:
        n: how many, this one included; None leaves it at what PyTorch has.
    """
    if n is None:
        yield
        return
    before = torch.get_num_threads()  # also sets a thread up that PyTorch has not seen
    set_ = _setter()
    set_(n)
    try:
        yield
    finally:
        set_(before)


@cache
def _setter() -> Callable[[int], object]:
    """Sets the number for the calling thread, where the OpenMP that PyTorch stands on can.

    It is a value of each thread there (OpenMP 5.0, section 2.5: `nthreads-var`), as in MKL.
    `torch.set_num_threads` sets it too, but hands it on to every thread that comes to PyTorch
    later, and drops oneDNN's caches; it is what is left where there is no such library.
    """
    library = ctypes.CDLL(torch._C.__file__)  # found as torch's own library finds it
    if not hasattr(library, "omp_set_num_threads"):
        return torch.set_num_threads
    for_mkl = getattr(library, "MKL_Set_Num_Threads_Local", None)

    def set_(n: int) -> None:
        library.omp_set_num_threads(n)
        if for_mkl is not None:
            for_mkl(n)

    return set_
