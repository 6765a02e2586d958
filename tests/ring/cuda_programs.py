"""Producers and readers of a ring on a GPU, each a process: there, or on a stand-in of CUDA."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.ring.conftest import ROOT

#: What a process begins with. On the stand-in "the GPU" is memory that processes share.
ON_GPU = """
DEVICE = "cuda"
"""
ON_STAND_IN = """
from tests.ring import cuda_stand_in
cuda_stand_in.install()
DEVICE = "cpu"
"""

# Every value of a frame is its index, so that one torn frame shows.
READS = """
import sys, time, torch
from fastgan.realtime import CudaRingReader
name, last, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
seen = skipped = 0
index = -1
with CudaRingReader(name, timeout=60.0) as ring:
    print("open", flush=True)
    while index < last:
        frame = ring.next(60.0)
        assert frame.pixels.device.type == DEVICE
        assert tuple(frame.pixels.shape) == ring.shape.sizes
        values = frame.pixels.unique().tolist()
        assert values == [frame.index % 251], (frame.index, values)
        assert frame.index > index
        index, seen, skipped = frame.index, seen + 1, skipped + frame.skipped
        time.sleep(pause)
print(seen, skipped)
"""

WRITES = """
import sys, time, torch
from fastgan.realtime import CudaRingWriter
name, first, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with CudaRingWriter(name, 64, 64, 3, slots=2) as ring:
    print("open", flush=True)
    for index in range(first, first + 1_000_000):
        frame = torch.full((64, 64, 3), index % 251, dtype=torch.uint8, device=DEVICE)
        ring.write(frame, index)
        time.sleep(pause)
"""

SAVES = """
import sys, torch
from fastgan.realtime import CudaRingReader
with CudaRingReader(sys.argv[1], timeout=60.0) as ring:
    print("open", flush=True)
    frame = ring.next(60.0)
    torch.save((frame.index, frame.pixels.cpu()), sys.argv[2])
"""


def start(where: str, program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process, once it has the ring open."""
    command = [sys.executable, "-c", where + program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def check_followed(where: str, name: str, seconds: float) -> None:
    """A reader goes on with the next producer's memory when one was killed."""
    first = start(where, WRITES, name, 0, 0.001)
    reads = start(where, READS, name, 1_000_000, 0)
    first.kill()
    first.wait()
    second = start(where, WRITES, name, 1_000_000, 0.001)
    out, _ = reads.communicate(timeout=seconds)
    second.kill()
    second.wait()
    assert reads.returncode == 0, out
