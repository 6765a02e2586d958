"""No torn frame, whoever is killed: the C header under load, sanitizers and SIGKILL.

`benchmarks/ring.py` is the long version of this, at full size.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from fastgan.realtime import RingReader, RingWriter
from tests.ring.conftest import INCLUDE, Compile
from tests.ring.frames import expected

TORTURE = Path(__file__).with_name("torture.c")
THREADS = (
    "-fsanitize=thread",
    "-g",
    "-Wno-tsan",
)  # it knows no fences: all that is shared is atomic
ADDRESSES = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


def run(program: Path, *arguments: object, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, env=environment
    )


def totals(output: str) -> list[list[int]]:
    """(frames, skipped, torn, p50, p99, longest) of each reader."""
    lines = [line.split() for line in output.splitlines()]
    return [[int(word) for word in line[1:]] for line in lines if line and line[0] == "total"]


@pytest.mark.parametrize("flags", [(), THREADS, ADDRESSES], ids=["plain", "thread", "address"])
def test_no_frame_is_torn(compile_c: Compile, name: str, flags: tuple[str, ...]) -> None:
    frames = 20_000 if flags else 100_000
    done = run(compile_c(TORTURE, *flags), "threads", name, 16, frames, 4)
    assert (done.returncode, done.stderr) == (0, "")
    readers = totals(done.stdout)
    assert len(readers) == 4
    for delivered, skipped, torn, *_ in readers:
        assert torn == 0
        assert delivered > 0
        assert delivered + skipped <= frames


@pytest.mark.parametrize(
    ("correct", "broken", "flags"),
    [
        ("return fg_reader_holds(reader, sequence);", "return true;", ()),
        ("fg_store_relaxed(to + i, word);", "to[i] = word;", THREADS),
    ],
    ids=["no second look", "plain copies"],
)
def test_these_tests_notice_a_broken_header(
    compile_c: Compile,
    name: str,
    tmp_path: Path,
    correct: str,
    broken: str,
    flags: tuple[str, ...],
) -> None:
    text = (INCLUDE / "fastgan_frames.h").read_text()
    assert text.count(correct) == 1
    (tmp_path / "fastgan_frames.h").write_text(text.replace(correct, broken))
    program = compile_c(TORTURE, *flags, include=tmp_path)
    for _ in range(10):
        done = run(program, "threads", name, 64, 20_000, 4)
        if flags:
            assert "data race" in done.stderr
            return
        if any(torn for _, _, torn, *_ in totals(done.stdout)):
            return
    pytest.fail("a reader that does not look twice was never caught")


def test_python_and_c_read_each_other(compile_c: Compile, name: str) -> None:
    program = compile_c(TORTURE, *ADDRESSES)
    producer = subprocess.Popen([program, "produce", name, "16", "0", "500"])
    try:
        with RingReader(name, timeout=20) as reader:
            for _ in range(20):
                frame = reader.next(timeout=10)
                assert frame is not None
                np.testing.assert_array_equal(frame.pixels, expected(frame.index, 16))
    finally:
        producer.kill()
        producer.wait()
    with RingWriter(name, 16, 16, 3, seed=7) as writer:
        assert writer.took_over
        assert writer.generation == 2
        consumer = subprocess.Popen(
            [program, "consume", name, "16", "1", "every"], stdout=subprocess.PIPE, text=True
        )
        index = 0
        while consumer.poll() is None:
            index += 1
            writer.write(expected(index, 16), index)
            time.sleep(0.001)
        assert consumer.stdout is not None
        ((delivered, _, torn, *_),) = totals(consumer.stdout.read())
    assert consumer.returncode == 0
    assert delivered > 0
    assert torn == 0


def test_either_side_may_be_killed_at_any_moment(compile_c: Compile, name: str) -> None:
    program = compile_c(TORTURE)

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [str(program), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    producer = start("produce", name, "16", "0", "0")
    steady = [start("consume", name, "16", "3", policy) for policy in ("newest", "every")]
    doomed = start("consume", name, "16", "60", "newest")
    kills = 0
    while any(reader.poll() is None for reader in steady):
        time.sleep(random.uniform(0.02, 0.15))
        doomed.send_signal(signal.SIGKILL)
        assert "torn" not in doomed.communicate()[0]
        producer.send_signal(signal.SIGKILL)
        producer.communicate()
        kills += 1
        producer = start("produce", name, "16", "0", "0")
        doomed = start("consume", name, "16", "60", "newest")
    for process in (producer, doomed):
        process.kill()
        process.communicate()
    assert kills > 5
    for reader in steady:
        output = reader.communicate()[0]
        assert reader.returncode == 0
        ((delivered, _, torn, *_),) = totals(output)
        assert delivered > 0
        assert torn == 0
        generations = [int(line.split()[1]) for line in output.splitlines() if "attached" in line]
        assert generations == sorted(set(generations))
        assert len(generations) > kills // 2, "it missed most of the producers"
    # Dead producers leave one segment at most, which the next one takes over.
    with RingWriter(name, 16, 16, 3) as writer:
        assert writer.took_over
    assert not Path("/dev/shm", name[1:]).exists()


def test_another_size_replaces_what_a_dead_producer_left(compile_c: Compile, name: str) -> None:
    program = compile_c(TORTURE)
    producer = subprocess.Popen([program, "produce", name, "16", "0", "500"])
    reader = RingReader(name, timeout=20)
    assert reader.next(timeout=10) is not None
    assert reader.alive
    producer.kill()
    producer.wait()
    assert not reader.alive
    while reader.next(timeout=0) is not None:
        pass
    with RingWriter(name, 8, 8, 3) as writer:
        assert not writer.took_over
        assert writer.generation == 1
        with pytest.raises(Exception, match="8x8 pixels"):
            reader.next(timeout=1)
    reader.close()


def test_a_ring_whose_name_was_removed(compile_c: Compile, name: str) -> None:
    program = compile_c(TORTURE)
    producer = subprocess.Popen([program, "produce", name, "16", "0", "500"])
    with RingReader(name, timeout=20) as reader:
        assert reader.next(timeout=10) is not None
        Path("/dev/shm", name[1:]).unlink()
        assert reader.next(timeout=10) is not None  # it goes on while its producer lives
        producer.kill()
        producer.wait()
        with RingWriter(name, 16, 16, 3) as writer:
            writer.write(expected(5, 16), 5)
            deadline = time.monotonic() + 10
            frame = reader.next(timeout=1)
            while (frame is None or frame.index != 5) and time.monotonic() < deadline:
                frame = reader.next(timeout=1)
            assert frame is not None
            assert frame.index == 5


@pytest.mark.parametrize("standard", ["c11", "gnu11"])
def test_the_header_is_plain_c(compile_c: Compile, tmp_path: Path, standard: str) -> None:
    source = tmp_path / "plain.c"
    source.write_text('#include "fastgan_frames.h"\nint main(void) { return FG_OK; }\n')
    assert run(compile_c(source, standard=standard)).returncode == 0


def test_the_header_is_cpp(compile_c: Compile, tmp_path: Path) -> None:
    source = tmp_path / "plain.cpp"
    source.write_text('#include "fastgan_frames.h"\nint main() { return FG_OK; }\n')
    assert run(compile_c(source, standard="c++17")).returncode == 0
