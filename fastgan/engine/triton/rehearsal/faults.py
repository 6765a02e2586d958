"""What can be made to go wrong on a rehearsed GPU, and when."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ILLEGAL = "an illegal memory access was encountered"


def error(text: str) -> RuntimeError:
    """What torch raises for an error of CUDA's."""
    kind: type[RuntimeError] = getattr(torch, "AcceleratorError", RuntimeError)
    return kind(f"CUDA error: {text}")


def out_of_memory() -> RuntimeError:
    """What torch's allocator raises."""
    return torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 MiB. (rehearsed)"
    )


#: What raises before a kernel runs, by name.
BEFORE: dict[str, Callable[[], Exception]] = {
    "compile": lambda: RuntimeError("PassManager::run failed"),
    "resources": lambda: RuntimeError("out of resource: shared memory, Required: 300000"),
    "compiler": lambda: RuntimeError(
        "Failed to find C compiler. Please specify via CC environment variable."
    ),
    "launch": lambda: RuntimeError("Triton Error [CUDA]: invalid argument"),
    "load": lambda: RuntimeError("Triton Error [CUDA]: out of memory"),
}


@dataclass
class Fault:
    """One that waits for its moment.

    Attributes:
        kind: of a launch a key of `BEFORE`, "wrong" (one number of its result), "bits" (other bits
            the second time), "overrun" (writes behind its result), "illegal" (an illegal access,
            which is seen by the next call), "hang", "crash"; "memory" of an allocation; "capture"
            of the end of one.
        where: a part of the kernel's name; "" for any.
        at: the how manieth launch, allocation or capture of these it is, from 1.
        times: for how many of them from there on.
    """

    kind: str
    where: str = ""
    at: int = 1
    times: int = 1 << 30
    seen: int = 0

    def strikes(self, where: str) -> bool:
        """Whether it is this one's turn."""
        if self.where not in where:
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


def before(kind: str) -> None:
    """What a fault does before its kernel runs."""
    if kind in BEFORE:
        raise BEFORE[kind]()
    if kind == "hang":
        time.sleep(3600)
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)


def after(kind: str, results: list[Tensor], count: int) -> None:
    """What it does to what the kernel has written, the `count`th time."""
    if not results or kind not in ("wrong", "bits", "overrun"):
        return
    result = max(results, key=Tensor.numel)
    if kind == "overrun":
        raw = torch.empty(0, dtype=torch.uint8).set_(result.untyped_storage())
        last = sum((n - 1) * s for n, s in zip(result.shape, result.stride(), strict=True))
        end = (result.storage_offset() + last + 1) * result.element_size()
        raw[end : end + 1] = 0x55
        return
    first = result.as_strided((1,), (1,))
    if kind == "bits":
        first.view(torch.uint8)[:1] ^= count & 1
    elif result.dtype == torch.uint8:
        first ^= 0x80
    else:
        first.copy_(first.float() + 4 * result.float().abs().nan_to_num(1.0).max() + 1)
