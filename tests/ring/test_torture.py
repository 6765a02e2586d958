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


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=environment
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


#: Changes to the header: (what stands there, what takes its place).
SLOW_READERS = (
    "    word = fg_load_relaxed(from + i);",
    "    const struct timespec pause = {0, 20000};\n"
    "    if (i % 256 == 0) nanosleep(&pause, NULL);\n"
    "    word = fg_load_relaxed(from + i);",
)
NO_SECOND_LOOK = ("return fg_reader_holds(reader, sequence);", "return true;")
PLAIN_COPIES = ("fg_store_relaxed(to + i, word);", "to[i] = word;")


def altered(folder: Path, *changes: tuple[str, str]) -> Path:
    """A folder that holds the header with some changes."""
    text = (INCLUDE / "fastgan_frames.h").read_text()
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    (folder / "fastgan_frames.h").write_text(text)
    return folder


def torn(compile_c: Compile, name: str, include: Path) -> int:
    done = run(compile_c(TORTURE, include=include), "threads", name, 64, 20_000, 4)
    assert done.returncode == 0, done.stderr
    return sum(torn for _, _, torn, *_ in totals(done.stdout))


def test_readers_that_are_overtaken_while_they_copy(
    compile_c: Compile, name: str, tmp_path: Path
) -> None:
    """The producer comes round several times during each copy, and only the second look tells."""
    assert torn(compile_c, name, altered(tmp_path, SLOW_READERS)) == 0
    blind = tmp_path / "blind"
    blind.mkdir()
    assert torn(compile_c, name, altered(blind, SLOW_READERS, NO_SECOND_LOOK)) > 0


def test_thread_sanitizer_would_see_plain_copies(
    compile_c: Compile, name: str, tmp_path: Path
) -> None:
    program = compile_c(TORTURE, *THREADS, include=altered(tmp_path, PLAIN_COPIES))
    assert "data race" in run(program, "threads", name, 16, 20_000, 4).stderr


def test_python_and_c_read_each_other(compile_c: Compile, name: str) -> None:
    program = compile_c(TORTURE, *ADDRESSES)
    producer = subprocess.Popen([program, "produce", name, "16", "0", "500"])
    try:
        with RingReader(name, timeout=120) as reader:
            for _ in range(20):
                frame = reader.next(timeout=60)
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
    steady = [start("consume", name, "16", "600", policy) for policy in ("newest", "every")]
    doomed = start("consume", name, "16", "600", "newest")
    seen: list[list[int]] = [[], []]
    for kill in range(8):
        for reader, generations in zip(steady, seen, strict=True):
            line = reader.stdout.readline().split()  # once it has the new producer's first frame
            assert line[:1] == ["attached"], line
            generations.append(int(line[1]))
        if kill == 7:
            break
        time.sleep(random.uniform(0.02, 0.15))  # whatever they are at
        doomed.send_signal(signal.SIGKILL)
        assert "torn" not in doomed.communicate()[0]
        producer.send_signal(signal.SIGKILL)
        producer.communicate()
        producer = start("produce", name, "16", "0", "0")
        doomed = start("consume", name, "16", "600", "newest")
    for reader, generations in zip(steady, seen, strict=True):
        reader.send_signal(signal.SIGTERM)
        output = reader.communicate()[0]
        assert reader.returncode == 0
        ((delivered, _, torn, *_),) = totals(output)
        assert delivered > 0
        assert torn == 0
        assert generations == sorted(set(generations))
    for process in (producer, doomed):
        process.kill()
        process.communicate()
    # Dead producers leave one segment at most, which the next one takes over.
    with RingWriter(name, 16, 16, 3) as writer:
        assert writer.took_over
    assert not Path("/dev/shm", name[1:]).exists()


def test_another_size_replaces_what_a_dead_producer_left(compile_c: Compile, name: str) -> None:
    program = compile_c(TORTURE)
    producer = subprocess.Popen([program, "produce", name, "16", "0", "500"])
    reader = RingReader(name, timeout=120)
    assert reader.next(timeout=60) is not None
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
    with RingReader(name, timeout=120) as reader:
        assert reader.next(timeout=60) is not None
        Path("/dev/shm", name[1:]).unlink()
        assert reader.next(timeout=60) is not None  # it goes on while its producer lives
        producer.kill()
        producer.wait()
        with RingWriter(name, 16, 16, 3) as writer:
            writer.write(expected(5, 16), 5)
            deadline = time.monotonic() + 60
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
