"""What an error of a GPU means: of memory, of a kernel, of the device, or of the machine's set-up.

They all come as RuntimeErrors, and what they mean decides what is done: a smaller batch, the
library op in place of a kernel, the end, or a sentence that says what to install.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fastgan.errors import BackendError

#: The errors that end a CUDA context: every call fails from there on, whichever work was at fault.
_STICKY = (
    "illegal memory access",
    "misaligned address",
    "unspecified launch failure",
    "illegal instruction",
    "invalid program counter",
    "illegal address space",
    "hardware stack error",
    "device-side assert",
    "launch timed out",
    "uncorrectable",
    "context is destroyed",
)

#: What Triton, or gcc for it, says where a launcher can't be built.
_NO_COMPILER = ("Failed to find C compiler", "Python.h", "cuda_utils.c", "main.c")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """It and what it came of; one that is raised anew may have come of itself."""
    seen: dict[int, BaseException] = {}
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen[id(one)] = one
        yield one
        one = one.__cause__ or one.__context__


def is_memory(error: BaseException) -> bool:
    """Whether there was too little memory on the device: no fault of what ran."""
    return any(
        isinstance(one, torch.cuda.OutOfMemoryError) or "[CUDA]: out of memory" in str(one)
        for one in _chain(error)
    )


def as_memory(error: BaseException) -> RuntimeError:
    """It as torch's own error."""
    for one in _chain(error):
        if isinstance(one, torch.cuda.OutOfMemoryError):
            return one
    return torch.cuda.OutOfMemoryError(str(error))


def is_sticky(error: BaseException) -> bool:
    """Whether the device has failed: nothing can be done on it in this process any more."""
    errors = [one for one in _chain(error) if isinstance(one, RuntimeError)]
    return any(text in str(one) for one in errors for text in _STICKY)


def lacks_compiler(error: BaseException) -> bool:
    """Whether Triton can build no launcher on this machine."""
    return any(text in str(one) for one in _chain(error) for text in _NO_COMPILER)


def sticky(model: str, where: str, error: BaseException) -> BackendError:
    """What to raise of one that `is_sticky`.

    Args:
        where: the step that was running, as far as it is known.
    """
    return BackendError(
        f"{model}: {where}",
        f"a failure of the GPU ({first_line(error)}), after which this process can't use it",
        "a kernel that works on this GPU",
        "run 'fastgan selftest', which finds and avoids it, or the program again with"
        " CUDA_LAUNCH_BLOCKING=1, which names the step for sure",
    )


def first_line(error: BaseException) -> str:
    """Of what it says, for a warning."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[0].split())[:200]
