"""A rehearsed GPU: CUDA's rules kept on a CPU, for tests of everything that a GPU would run.

    with rehearse(devices=2) as gpus:
        gpus.fault("memory", at=3)
        fastgan.load("m.onnx", device="cuda:1").generate(8)

Within, `torch.cuda` is one that this room stands in for, underneath `engine/device.py`: so
the lines rehearsed are those that a GPU runs, down to the calls of torch. Tensors say that they
are on "cuda:0" and hold their numbers in main memory; Triton's kernels are interpreted
(TRITON_INTERPRET=1). Everything runs at once and in order; what CUDA forbids, or leaves open, is an
error here:

- in a capture: to allocate outside of its pool, to copy from pageable memory, to wait for the
  device, to replay a graph, to load a kernel, to use another stream;
- a graph replays the recorded launches on the recorded addresses; memory that is freed is poisoned,
  and a graph that is replayed on it is an error;
- work on two streams on the same memory that no event orders, and memory that is freed while
  another stream may still use it;
- a kernel launched on another device than its tensors' (an illegal access, which is sticky).

Faults can be put at any step: see `faults`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from fastgan.engine.triton.rehearsal.machine import GPU, Machine

__all__ = ["GPU", "Machine", "rehearse"]


@contextlib.contextmanager
def rehearse(devices: int = 1, **properties: Any) -> Iterator[Machine]:
    """`torch.cuda` with so many rehearsed GPUs; `properties` are those of `GPU`."""
    from fastgan.engine.triton.rehearsal import cuda, tensors

    machine = Machine([GPU(index, **properties) for index in range(devices)])
    with tensors.of(machine), cuda.of(machine):
        yield machine
