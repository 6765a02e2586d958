"""The ring on a GPU, all but the GPU: order, lifetimes and errors, against a stand-in of CUDA.

tests/gpu/test_ring_gpu.py is the same on a GPU, between two processes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fastgan.errors import ArgumentError, BackendError, RingError
from fastgan.realtime import (
    CudaRingReader,
    CudaRingWriter,
    RingReader,
    RingShape,
    RingWriter,
)
from fastgan.realtime.ring import cuda_memory
from tests.ring import cuda_stand_in
from tests.ring.conftest import Compile
from tests.ring.cuda_programs import ON_STAND_IN, READS, check_followed, start
from tests.ring.cuda_stand_in import UUIDS, Gpu

native = pytest.importorskip("fastgan._native", reason="the native part is not built")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    made = cuda_stand_in.install(monkeypatch)
    yield made
    for path in made.files.values():  # memory that is kept to the end
        path.unlink()


def drawn(format: str = "uint8") -> torch.Tensor:
    if format == "uint8":
        return torch.randint(0, 256, (9, 14, 3), dtype=torch.uint8)
    return torch.randn(3, 9, 14)


@pytest.mark.parametrize("format", ["uint8", "float32"])
def test_what_is_written_is_read(gpu: Gpu, name: str, format: str) -> None:
    options = {"format": format, "range": (-1.0, 1.0), "slots": 3, "fps": 50, "seed": 7}
    with CudaRingWriter(name, 9, 14, 3, device="cuda:1", **options) as ring:
        assert gpu.calls == ["cudaMalloc", "cudaIpcGetMemHandle"]
        with CudaRingReader(name) as reader:
            shape = RingShape(9, 14, 3, format, (-1.0, 1.0), "cuda")
            assert reader.shape == ring.shape == shape
            assert "on a GPU" in str(shape)
            assert reader.fps == 50
            for index in range(8):
                frame = drawn(format)
                ring.write(frame if index % 2 else frame.numpy(), index, 1234)
                found = reader.next(copy=index % 3 > 0)
                assert found is not None
                wanted = frame if format == "uint8" else frame.permute(1, 2, 0)
                assert torch.equal(found.pixels, wanted)
                assert (found.sequence, found.index, found.seed) == (index + 1, index, 7)
                assert (found.produced_ns, found.skipped) == (1234, 0)
            assert reader.next(0.01) is None
            assert gpu.device == 0  # as it was before, of which others know
            assert gpu.calls.count("cudaIpcOpenMemHandle") == 1


def test_a_frame_is_put_up_when_its_copy_has_ended(gpu: Gpu, name: str) -> None:
    with CudaRingWriter(name, 9, 14, 3) as ring, CudaRingReader(name) as reader:
        frame, seen = drawn(), []

        def look(device: torch.device) -> None:
            seen.append((device, reader._reader.next(None, False, 0), ring._slots[0].clone()))

        gpu.synchronised = look
        ring.write(frame, 0)
        gpu.synchronised = None
        ((device, found, slot),) = seen
        assert device == torch.device("cuda:0")
        assert found is None
        assert torch.equal(slot, frame)
        assert reader.next() is not None


def test_a_frame_that_is_overwritten_while_it_is_copied_is_not_delivered(
    gpu: Gpu, name: str
) -> None:
    with CudaRingWriter(name, 9, 14, 3, slots=2) as ring, CudaRingReader(name) as reader:
        ring.write(drawn(), 0)
        frames = [drawn() for _ in range(4)]

        def overtake(device: torch.device) -> None:
            gpu.synchronised = None
            for index, frame in enumerate(frames, 1):
                ring.write(frame, index)

        gpu.synchronised = overtake
        found = reader.next()
        assert found is not None
        assert (found.index, found.skipped) == (4, 4)
        assert torch.equal(found.pixels, frames[-1])

        ring.write(drawn(), 5)
        held = reader.next(copy=False)
        assert held is not None
        assert reader.holds(held)
        ring.write(drawn(), 6)
        assert reader.holds(held)  # of two slots, the other one
        ring.write(drawn(), 7)
        assert not reader.holds(held)


def test_memory_is_freed_when_no_reader_has_it_open(gpu: Gpu, name: str, caplog, monkeypatch):
    ring = CudaRingWriter(name, 9, 14, 3)
    with CudaRingReader(name):
        ring.write(drawn(), 0)
    gpu.calls.clear()
    ring.close()
    ring.close()
    assert gpu.calls == ["cudaFree"]
    assert not gpu.memory

    monkeypatch.setattr("fastgan.realtime.ring.cuda._GRACE_SECONDS", 0.02)
    ring = CudaRingWriter(name, 9, 14, 3)
    ring.write(drawn(), 0)
    with CudaRingReader(name) as reader:
        assert reader.next() is not None
        ring.close()
        assert "a reader has its memory open" in caplog.text
        assert len(gpu.memory) == 1
        assert not Path("/dev/shm", name[1:]).exists()
        assert reader.next(0.05) is None
        with CudaRingWriter(name, 9, 14, 3) as second:  # it reads on there
            second.write(frame := drawn(), 5)
            found = reader.next()
            assert found is not None
            assert torch.equal(found.pixels, frame)
            reader.close()
    assert gpu.calls[-2:] == ["cudaIpcCloseMemHandle", "cudaFree"]
    assert len(gpu.memory) == 1
    assert not any(gpu.opened.values())
    with pytest.raises(RingError, match="closed"):
        ring.write(drawn(), 1)


DIES = """
import os, signal, sys
from fastgan import _native
shape = (14, 9, 3, 1, 0.0, 255.0, 1)
cuda = (bytes(16), 2 * 512, 512, bytes(64))
ring = _native.FramesWriter(sys.argv[1], shape, 2, 0, 0, 1.0, 0.0, 0, False, cuda)
ring.begin(); ring.end(0, 0, 0); ring.begin()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_dead_producers_memory_is_not_written_on(gpu: Gpu, name: str) -> None:
    assert subprocess.run([sys.executable, "-c", DIES, name], check=False).returncode < 0
    old = native.FramesReader(name, None, False, True)
    assert not old.alive
    with CudaRingWriter(name, 9, 14, 3, slots=2) as ring:
        assert not ring.took_over
        assert old.next(None, False, 0) is not None
        with pytest.raises(native.FramesError, match="another has taken its place"):
            old.next(None, False, 0)
        with CudaRingReader(name) as reader:
            ring.write(frame := drawn(), 3)
            assert torch.equal(reader.next().pixels, frame)


def test_what_cannot_be_had_leaves_nothing_behind(gpu: Gpu, name: str, monkeypatch) -> None:
    for call in ("cudaMalloc", "cudaIpcGetMemHandle"):
        gpu.fails = {call}
        with pytest.raises(BackendError, match=f"CUDA: found {call}: cudaError"):
            CudaRingWriter(name, 9, 14, 3)
    gpu.fails = set()
    for arguments, options in (((name, 9, 14, 3), {"slots": 33}), (("x", 9, 14, 3), {})):
        with pytest.raises(ArgumentError):
            CudaRingWriter(*arguments, **options)
    with pytest.raises(ArgumentError, match="cuda:0"):
        CudaRingWriter(name, 9, 14, 3, device="cpu")
    assert not gpu.memory
    assert not Path("/dev/shm", name[1:]).exists()

    with CudaRingWriter(name, 9, 14, 3) as ring:
        with pytest.raises(RingError, match=r"on a GPU.*CudaRingReader"):
            RingReader(name)
        with pytest.raises(RingError, match="running"):
            CudaRingWriter(name, 9, 14, 3)
        with pytest.raises(RingError, match="frames of"):
            CudaRingReader(name, shape=RingShape(9, 14, 3))
        for wrong in (torch.zeros(9, 14, 3), drawn()[:8]):
            with pytest.raises(ArgumentError, match="frame"):
                ring.write(wrong, 0)
        with pytest.raises(ValueError, match="on a GPU"):
            ring._writer.write(bytes(9 * 14 * 3), 0, 0, 0)
        monkeypatch.setattr(cuda_stand_in, "UUIDS", [bytes(16)])
        with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES"):
            CudaRingReader(name)
        monkeypatch.setattr(cuda_stand_in, "UUIDS", UUIDS)
        (path,) = gpu.files.values()
        path.rename(path.with_suffix(".gone"))
        with pytest.raises(BackendError, match="cudaIpcOpenMemHandle"):
            CudaRingReader(name)
        path.with_suffix(".gone").rename(path)
        gpu.calls.clear()
    assert gpu.calls == ["cudaFree"]  # at once: those readers have let go
    with RingWriter(name, 9, 14, 3), pytest.raises(RingError, match="take RingReader"):
        CudaRingReader(name)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match="pip install cuda-bindings"):
        CudaRingWriter(name, 9, 14, 3)


def test_no_frame_is_torn_between_processes(gpu: Gpu, name: str) -> None:
    """The two processes of tests/gpu, on memory that they share; so large that copies meet."""
    frames, shape = 1500, (512, 512, 3)
    with CudaRingWriter(name, *shape, slots=2) as ring:
        process = start(ON_STAND_IN, READS, name, frames - 1, 0)
        for index in range(frames):
            ring.write(torch.full(shape, index % 251, dtype=torch.uint8), index)
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        seen, skipped = map(int, out.split())
        assert 0 < seen + skipped <= frames


def test_a_killed_producer_is_followed(name: str) -> None:
    before = set(Path("/dev/shm").glob("fastgan-gpu-*"))
    try:
        check_followed(ON_STAND_IN, name, 240)
    finally:  # a GPU's driver frees what was a killed process's
        for left in set(Path("/dev/shm").glob("fastgan-gpu-*")) - before:
            left.unlink()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(name: str) -> None:
    with pytest.raises(BackendError, match="no GPU that PyTorch can use"):
        CudaRingWriter(name, 9, 14, 3)
    assert not Path("/dev/shm", name[1:]).exists()


PRINTS = r"""
#include "fastgan_frames.h"
#include <stdio.h>
int main(int count, char **names) {
  fg_reader reader = FG_READER_NONE;
  fg_frame frame;
  fg_cuda cuda;
  int i, error = fg_reader_open(&reader, names[count - 1], NULL, false);
  if (error == FG_OK) error = fg_reader_cuda(&reader, &cuda);
  if (error == FG_OK) error = fg_reader_next(&reader, NULL, &frame, FG_NEWEST, 1000000000);
  if (error != FG_OK) return printf("%s\n", fg_error_text(error)), 1;
  for (i = 0; i < 16; ++i) printf("%02x", cuda.device_uuid[i]);
  printf(" %d %d ", (int)cuda.pool_bytes, (int)cuda.pool_stride);
  for (i = 0; i < 64; ++i) printf("%02x", cuda.memory_handle[i]);
  for (i = 0; i < (int)sizeof cuda.event_handles; ++i) {
    if (((unsigned char *)cuda.event_handles)[i] != 0) return 1;
  }
  printf(" %d %d\n", (int)frame.index, fg_reader_holds(&reader, frame.sequence));
  fg_reader_close(&reader);
  return 0;
}
"""


def test_c_finds_the_memory(gpu: Gpu, name: str, compile_c: Compile, tmp_path: Path) -> None:
    source = tmp_path / "prints.c"
    source.write_text(PRINTS)
    program = compile_c(source)

    def run() -> tuple[int, list[str]]:
        done = subprocess.run([program, name], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.split()

    with CudaRingWriter(name, 9, 14, 3, slots=5, device="cuda:1") as ring:
        ring.write(drawn(), 41)
        (handle,) = gpu.handles
        code, words = run()
        assert code == 0, words
        assert words == [UUIDS[1].hex(), "2560", "512", handle.hex(), "41", "1"]
    with RingWriter(name, 9, 14, 3):
        assert "another size" in " ".join(run()[1])
    # One that promises more frames than its memory holds.
    shape, pool = (14, 9, 3, 1, 0.0, 255.0, 1), (bytes(16), 1024, 512, bytes(64))
    with pytest.raises(native.FramesError, match="out of range"):
        native.FramesWriter(name, shape, 3, 0, 0, 1.0, 0.0, 0, False, pool)


def test_the_package_is_as_the_stand_in() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="no cuda-bindings")
    handle = runtime.cudaIpcMemHandle_t()
    handle.reserved = bytes(range(64))
    assert handle.reserved == bytes(range(64))
    assert cuda_stand_in.Error.cudaSuccess == runtime.cudaError_t.cudaSuccess
    assert runtime.cudaIpcMemLazyEnablePeerAccess == 1
    flags = runtime.cudaGraphicsRegisterFlags
    assert int(flags.cudaGraphicsRegisterFlagsWriteDiscard) == 2
    assert len(runtime.cudaDeviceProp().uuid.bytes) == cuda_memory.UUID_BYTES
    for name in dir(Gpu):
        if name.startswith("cuda"):
            assert callable(getattr(runtime, name))
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="cudaMalloc: cudaError"):
            cuda_memory.call("cudaMalloc", 1)
