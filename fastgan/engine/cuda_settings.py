"""What torch's library ops may do on a GPU while a model runs: tf32 where it was asked for alone.

PyTorch lets cuDNN round fp32 convolutions to tf32 (10 bits of mantissa) unless told otherwise, by
settings of the whole process. They are changed while launches are made, one model at a time, and
put back; torch code of other threads sees them changed for that long.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

_turn = threading.RLock()


@contextlib.contextmanager
def library(precision: str, benchmark: bool | None = None) -> Iterator[None]:
    """The settings for a precision, for as long as launches are made.

    Args:
        precision: "tf32" allows tf32, any other forbids it.
        benchmark: whether cuDNN is to measure its algorithms; None leaves that alone.
    """
    cudnn = torch.backends.cudnn
    with _turn, contextlib.ExitStack() as stack:
        if benchmark is not None:
            stack.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
            cudnn.benchmark = benchmark
        for owner, name, value in _tf32(precision == "tf32"):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _tf32(allowed: bool) -> list[tuple[object, str, object]]:
    """Owner, name and value of the settings, by the names that this process uses for them."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        _ = cudnn.allow_tf32, matmul.allow_tf32
    except RuntimeError:
        # A process that has used torch's newer names may not use the older ones any more.
        value = "tf32" if allowed else "ieee"
        conv = cudnn.conv  # type: ignore[attr-defined]
        return [(conv, "fp32_precision", value), (matmul, "fp32_precision", value)]
    return [(cudnn, "allow_tf32", allowed), (matmul, "allow_tf32", allowed)]
