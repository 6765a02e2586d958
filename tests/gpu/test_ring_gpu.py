"""The ring on a GPU, between two processes: frames stay there, and none is ever torn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fastgan
from fastgan.realtime import CudaRingWriter, SeedPath
from tests.ring.cuda_programs import ON_GPU, READS, SAVES, check_followed, start
from tests.ring.names import ring_name

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]

pytest.importorskip("cuda.bindings.runtime", reason="no cuda-bindings")


@pytest.fixture
def name() -> Iterator[str]:
    with ring_name() as made:
        yield made


@pytest.mark.parametrize("pause", [0.0, 0.002])
def test_no_frame_is_torn(name: str, pause: float) -> None:
    count = 20_000
    frame = torch.empty(256, 256, 3, dtype=torch.uint8, device="cuda")
    with CudaRingWriter(name, 256, 256, 3, slots=2) as ring:
        process = start(ON_GPU, READS, name, count - 1, pause)
        for index in range(count):
            frame.fill_(index % 251)
            ring.write(frame, index)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        seen, skipped = map(int, out.split())
        assert seen + skipped <= count  # those before it opened the ring are not its own


@pytest.mark.parametrize("format", ["uint8", "float32"])
def test_a_generators_frames_arrive(name: str, format: str, tmp_path: Path) -> None:
    generator = fastgan.load("dcgan-digits", device="cuda")
    walk = SeedPath((0, 1, 2), 30)
    with CudaRingWriter(name, 32, 32, 1, format=format) as ring:
        process = start(ON_GPU, SAVES, name, tmp_path / "frame.pt")
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
    check_followed(ON_GPU, name, 120)
