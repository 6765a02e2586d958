"""The ring on a GPU, between two processes: frames stay there, and none is ever torn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch

import fastgan
from fastgan.realtime import CudaRingWriter, SeedPath

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]

pytest.importorskip("cuda.bindings.runtime", reason="no cuda-bindings")

# Every value of a frame is its index, so that one torn frame shows.
READS = """
import sys, torch
from fastgan.realtime import CudaRingReader
name, last, slow = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "slow"
seen = skipped = 0
index = -1
with CudaRingReader(name, timeout=60.0) as ring:
    print("open", flush=True)
    while index < last:
        frame = ring.next(60.0)
        assert frame.pixels.is_cuda and tuple(frame.pixels.shape) == ring.shape.sizes
        values = frame.pixels.unique().tolist()
        assert values == [frame.index % 251], (frame.index, values)
        assert frame.index > index
        index, seen, skipped = frame.index, seen + 1, skipped + frame.skipped
        if slow:
            torch.cuda._sleep(2_000_000)
print(seen, skipped)
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = f"/fastgan-test-{uuid4().hex[:12]}"
    yield name
    Path("/dev/shm", name[1:]).unlink(missing_ok=True)


def reader(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


@pytest.mark.parametrize("pace", ["fast", "slow"])
def test_no_frame_is_torn(name: str, pace: str) -> None:
    count = 20_000
    frame = torch.empty(256, 256, 3, dtype=torch.uint8, device="cuda")
    with CudaRingWriter(name, 256, 256, 3, slots=2) as ring:
        process = reader(READS, name, count - 1, pace)
        for index in range(count):
            frame.fill_(index % 251)
            ring.write(frame, index)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        seen, skipped = map(int, out.split())
        assert seen + skipped <= count  # those before it opened the ring are not its own


SAVES = """
import sys, torch
from fastgan.realtime import CudaRingReader
with CudaRingReader(sys.argv[1], timeout=60.0) as ring:
    print("open", flush=True)
    frame = ring.next(60.0)
    torch.save((frame.index, frame.pixels.cpu()), sys.argv[2])
"""


@pytest.mark.parametrize("format", ["uint8", "float32"])
def test_a_generators_frames_arrive(name: str, format: str, tmp_path: Path) -> None:
    generator = fastgan.load("dcgan-digits", device="cuda")
    walk = SeedPath((0, 1, 2), 30)
    with CudaRingWriter(name, 32, 32, 1, format=format) as ring:
        process = reader(SAVES, name, tmp_path / "frame.pt")
        with generator.stream(latents=walk, format=format, frames=1) as stream:
            frame = next(stream)
            picture = frame.picture if format == "uint8" else frame.images[0]
            ring.write(picture, frame.index, frame.produced_ns)
            wanted = picture.cpu() if format == "uint8" else picture.cpu().permute(1, 2, 0)
        assert process.wait(120) == 0
    index, pixels = torch.load(tmp_path / "frame.pt")
    assert index == 0
    assert torch.equal(pixels, wanted)


def test_a_killed_producer_is_followed(name: str) -> None:
    """A reader goes on with the next producer's memory, whatever has become of the first one's."""
    writes = """
import sys, time, torch
from fastgan.realtime import CudaRingWriter
with CudaRingWriter(sys.argv[1], 64, 64, 3) as ring:
    print("open", flush=True)
    for index in range(int(sys.argv[2]), int(sys.argv[2]) + 100_000):
        ring.write(torch.full((64, 64, 3), index % 251, dtype=torch.uint8, device="cuda"), index)
        time.sleep(0.001)
"""
    first = reader(writes, name, 0)
    reads = reader(READS, name, 1_000_000, "fast")
    first.kill()
    first.wait()
    second = reader(writes, name, 1_000_000)
    out, _ = reads.communicate(timeout=120)
    second.kill()
    second.wait()
    assert reads.returncode == 0, out
