"""The ring as Python sees it: frames, controls, and every way to be told no."""

from __future__ import annotations

import math
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastgan
from fastgan import ArgumentError, RingError
from fastgan.realtime import RingReader, RingShape, RingWriter
from tests import drawing

pytest.importorskip("fastgan._native", reason="the native part is not built")
rng = drawing.new_numpy()


def picture(height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray:
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def segment(name: str) -> Path:
    return Path("/dev/shm", name[1:])


# Frames -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_frame_arrives_as_it_was_written(name: str, channels: int) -> None:
    height, width = int(rng.integers(1, 40)), int(rng.integers(1, 40))
    with (
        RingWriter(name, height, width, channels, fps=60, seed=9) as writer,
        RingReader(name) as reader,
    ):
        assert reader.shape == RingShape(height, width, channels)
        assert reader.fps == pytest.approx(60, rel=1e-6)
        assert reader.slots == 4
        before = time.monotonic_ns()
        wanted = picture(height, width, channels)
        writer.write(wanted, 41, produced_ns=before)
        frame = reader.next()
        assert frame is not None
        np.testing.assert_array_equal(frame.pixels, wanted)
        assert (frame.sequence, frame.skipped, frame.index, frame.seed) == (1, 0, 41, 9)
        assert frame.generation == 1
        assert frame.produced_ns == before <= frame.published_ns <= time.monotonic_ns()
        assert reader.next(timeout=0.01) is None


def test_floats_arrive_with_channels_last_and_their_range(name: str) -> None:
    wanted = torch.randn(3, 6, 9)
    with (
        RingWriter(name, 6, 9, 3, format="float32", range=(-1.0, 1.0)) as writer,
        RingReader(name) as reader,
    ):
        writer.write(wanted, 0)
        frame = reader.next()
        assert frame is not None
        assert reader.shape.range == (-1.0, 1.0)
        np.testing.assert_array_equal(frame.pixels, wanted.permute(1, 2, 0).numpy())


def test_the_newest_frame_wins_and_the_others_are_counted(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as writer, RingReader(name) as reader:
        for index in range(10):
            writer.write(picture(), index)
        frame = reader.next()
        assert frame is not None
        assert (frame.index, frame.sequence, frame.skipped) == (9, 10, 9)


def test_every_frame_in_its_turn_as_far_as_the_ring_holds_them(name: str) -> None:
    with RingWriter(name, 5, 7, 3, slots=4) as writer, RingReader(name) as reader:
        got = []
        for count in (1, 2, 3, 9):
            for _ in range(count):
                writer.write(picture(), 0)
            while (frame := reader.next(timeout=0, every=True)) is not None:
                got.append((frame.sequence, frame.skipped))
        # Of the last nine, 7 to 15, three are held for sure; the fourth slot is the next to go.
        assert got == [(i, 0) for i in range(1, 7)] + [(13, 6), (14, 0), (15, 0)]


def test_a_reader_that_opens_late_begins_with_the_newest(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as writer:
        for index in range(6):
            writer.write(picture(), index)
        with RingReader(name) as reader:
            frame = reader.next(timeout=0)
            assert frame is not None
            assert (frame.index, frame.skipped) == (5, 0)


def test_a_reader_sleeps_until_the_frame_comes(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as writer, RingReader(name) as reader:
        thread, slept = threading.get_native_id(), []

        def write_once_it_sleeps() -> None:
            """Or after a minute in which it turned in circles."""
            for _ in range(6000):
                stat = Path(f"/proc/self/task/{thread}/stat").read_text()
                slept.append(stat.rpartition(")")[2].split()[0] == "S")
                if all(slept[-5:]) and len(slept) >= 5:
                    break
                time.sleep(0.01)
            writer.write(picture(), 3)

        later = threading.Thread(target=write_once_it_sleeps)
        later.start()
        frame = reader.next(timeout=300)
        later.join()
        assert all(slept[-5:]), "it did not sleep"
        assert frame is not None
        assert frame.index == 3


def test_closing_while_another_thread_waits(name: str) -> None:
    with RingWriter(name, 5, 7, 3):
        reader = RingReader(name)
        raised: list[BaseException] = []

        def wait() -> None:
            try:
                reader.next(timeout=600)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        reader.close()
        thread.join(60)
        assert not thread.is_alive()
        assert [type(error) for error in raised] == [RingError]


def test_a_stream_writes_into_a_ring(name: str) -> None:
    generator = fastgan.load("dcgan-digits")
    options = {"seed": 5, "frames": 8, "policy": "every"}
    with RingWriter(name, 32, 32, 1, slots=20) as ring, RingReader(name) as reader:
        with generator.stream(**options) as stream:
            stats = stream.into(ring)
        assert stats.delivered == 8
        with generator.stream(**options) as stream:
            for made in stream:
                frame = reader.next(timeout=0, every=True)
                assert frame is not None
                assert frame.index == made.index
                np.testing.assert_array_equal(frame.pixels, made.picture.numpy())


# Producers come and go ----------------------------------------------------------------------------


def test_a_reader_goes_on_with_the_next_producer(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as first:
        reader = RingReader(name)
        first.write(picture(), 1)
        assert reader.next() is not None
    assert not segment(name).exists()
    assert reader.next(timeout=0.05) is None
    with RingWriter(name, 5, 7, 3) as second:
        wanted = picture()
        second.write(wanted, 2)
        frame = reader.next()
        assert frame is not None
        np.testing.assert_array_equal(frame.pixels, wanted)
    reader.close()


def test_a_reader_is_told_when_the_next_producer_has_another_size(name: str) -> None:
    with RingWriter(name, 5, 7, 3):
        reader = RingReader(name)
    with RingWriter(name, 6, 7, 3), pytest.raises(RingError, match=r"7x6.*needed 7x5"):
        reader.next()
    reader.close()


def test_the_last_frame_before_the_end_is_delivered(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as writer:
        reader = RingReader(name)
        writer.write(picture(), 8)
    frame = reader.next(timeout=0)
    assert frame is not None
    assert frame.index == 8
    reader.close()


# Control ------------------------------------------------------------------------------------------


def test_what_readers_ask_for(name: str) -> None:
    with (
        RingWriter(name, 5, 7, 3, seed=4, speed=0.5, truncation=0.7, label=2) as writer,
        RingReader(name, control=True) as one,
        RingReader(name, control=True) as two,
    ):
        assert writer.asked() is None
        one.ask(speed=-2.5)
        asked = writer.asked()
        assert asked is not None
        assert (asked.seed, asked.speed, asked.truncation, asked.label) == (4, -2.5, 0.7, 2)
        assert (asked.paused, asked.steps) == (False, 0)
        one.ask(seed=2**64 - 1, steps=2, paused=True)
        two.ask(label=-1, truncation=math.nan, steps=1)
        asked = writer.asked()
        assert asked is not None
        assert (asked.seed, asked.label, asked.truncation) == (2**64 - 1, None, None)
        assert (asked.paused, asked.steps) == (True, 3)
        assert writer.asked() is None
        two.ask(speed=math.inf)
        asked = writer.asked()
        assert asked is not None
        assert asked.speed is None
        assert asked.steps == 0


@pytest.mark.parametrize("form", [np.int64, np.array, torch.tensor], ids=lambda f: f.__name__)
def test_asking_in_numbers_of_other_libraries(name: str, form: Any) -> None:
    with RingWriter(name, 5, 7, 3, slots=form(4), label=form(1)) as writer:
        with RingReader(name, control=True, timeout=form(1)) as reader:
            reader.ask(seed=form(5), speed=form(2), truncation=form(1), label=form(3))
            reader.ask(paused=form(1), steps=form(2))
            assert reader.next(form(0)) is None
        asked = writer.asked()
        assert asked is not None
        assert (asked.seed, asked.speed, asked.truncation, asked.label) == (5, 2.0, 1.0, 3)
        assert (asked.paused, asked.steps) == (True, 2)


ABSURD = {
    "seed": (-1, 1 << 64, 1.5, "x", [1], math.nan, True),
    "speed": ("x", [1], math.nan, 1j, 10**400),
    "truncation": ("x", np.zeros(2), object()),
    "label": (-2, 1 << 63, 0.5, np.zeros(2)),
    "paused": (2, "no", math.nan, np.zeros(2)),
    "steps": (-1, 1.5, "x", np.zeros(2)),
}


def test_what_makes_no_sense_is_not_asked(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as writer, RingReader(name, control=True) as reader:
        for control, values in ABSURD.items():
            for absurd in values:
                with pytest.raises(ArgumentError, match=control):
                    reader.ask(**{control: absurd})
        assert writer.asked() is None
        for absurd in ("x", None, math.nan, [1]):
            with pytest.raises(ArgumentError, match="timeout"):
                reader.next(absurd)
            with pytest.raises(ArgumentError, match="timeout"):
                RingReader(name, timeout=absurd)


def test_a_reader_without_control_can_not_ask(name: str) -> None:
    with (
        RingWriter(name, 5, 7, 3),
        RingReader(name) as reader,
        pytest.raises(RingError, match="control=True"),
    ):
        reader.ask(seed=1)


# Being told no ------------------------------------------------------------------------------------


NO_NAMES = ["", "/", "x", "/a/b", "/..", "/.hidden", "/ä", "/" + "a" * 201, None, 5, b"/x"]


@pytest.mark.parametrize("bad", NO_NAMES)
def test_names_that_are_none(bad: Any) -> None:
    for make in (lambda: RingWriter(bad, 5, 7, 3), lambda: RingReader(bad)):
        with pytest.raises(ArgumentError, match="name of a ring"):
            make()


def test_a_name_that_a_live_producer_has(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as writer:
        with pytest.raises(RingError, match=r"process \d+.*take another name"):
            RingWriter(name, 5, 7, 3)
        with pytest.raises(RingError, match="running"):
            RingWriter(name, 9, 9, 1)
        writer.write(picture(), 0)  # nothing happened to it


def test_no_ring(name: str) -> None:
    with pytest.raises(RingError, match="fastgan stream MODEL --shm"):
        RingReader(name)
    began = time.monotonic()
    with pytest.raises(RingError, match="no ring"):
        RingReader(name, timeout=0.2)
    assert time.monotonic() - began >= 0.2


def test_a_reader_of_another_size(name: str) -> None:
    with RingWriter(name, 5, 7, 3):
        for other in (RingShape(5, 7, 4), RingShape(7, 5, 3), RingShape(5, 7, 3, "float32")):
            with pytest.raises(RingError, match="7x5 pixels of 3 x uint8"):
                RingReader(name, shape=other)
        RingReader(name, shape=RingShape(5, 7, 3)).close()


@pytest.mark.parametrize("content", [b"\0" * 8192, b"somebody's" * 1000, b"short"])
def test_shared_memory_of_another_program_is_left_alone(name: str, content: bytes) -> None:
    other = SharedMemory(name[1:], create=True, size=len(content))
    other.buf[: len(content)] = content
    with pytest.raises(RingError, match="another program"):
        RingWriter(name, 5, 7, 3)
    with pytest.raises(RingError, match="another program"):
        RingReader(name)
    assert segment(name).read_bytes() == content
    other.close()
    other.unlink()


@pytest.mark.parametrize("content", [b"", b"FGMAKING", b"FGMAKING" + b"\0" * 8184])
def test_a_producer_that_died_while_it_made_its_ring(name: str, content: bytes) -> None:
    segment(name).write_bytes(content)
    with pytest.raises(RingError, match="just starting"):
        RingReader(name)
    with RingWriter(name, 5, 7, 3) as writer:
        assert not writer.took_over
    assert not segment(name).exists()


def leave_behind(name: str) -> None:
    """A ring without its producer, as one that was killed leaves it."""
    with RingWriter(name, 5, 7, 3) as writer:
        writer.write(picture(), 0)
        content = segment(name).read_bytes()
    segment(name).write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 2, "another version"),
        (16, 5, "damaged"),  # segment_bytes
        (24, 64, "damaged"),  # slot_bytes
        (32, 3, "damaged"),  # slots
        (64, 1 << 20, "damaged"),  # width
        (96, 1, "damaged"),  # frame_bytes
    ],
)
def test_a_ring_of_another_version_or_damaged(
    name: str, offset: int, value: int, message: str
) -> None:
    leave_behind(name)
    RingReader(name).close()
    with segment(name).open("r+b") as file:
        file.seek(offset)
        file.write(value.to_bytes(4, "little"))
    with pytest.raises(RingError, match=message):
        RingReader(name)
    with RingWriter(name, 5, 7, 3) as writer:  # stale all the same: made anew
        assert not writer.took_over
        writer.write(picture(), 0)
        RingReader(name).close()


def test_no_damage_leads_a_reader_or_a_producer_astray(name: str) -> None:
    """Whatever the words say: an error, no frame or a frame, and neither a crash nor a hang."""
    leave_behind(name)
    whole = segment(name).read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.choice([rng.integers(0, 320), 4096 + rng.integers(0, 64)]))
            damaged[at : at + 8] = rng.bytes(8) if rng.random() < 0.5 else b"\xff" * 8
        segment(name).write_bytes(damaged)
        began = time.monotonic()
        try:
            with RingReader(name) as reader:
                reader.next(timeout=0.001)
                reader.next(timeout=0.001, every=True)
            with RingWriter(name, 5, 7, 3) as writer:
                writer.write(picture(), 0)
        except RingError:
            pass
        assert time.monotonic() - began < 60


def test_a_ring_that_was_cut_short(name: str) -> None:
    leave_behind(name)
    with segment(name).open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(RingError, match="damaged"):
        RingReader(name)


def test_too_large_for_shared_memory(name: str) -> None:
    with pytest.raises(RingError, match="/dev/shm"):
        RingWriter(name, 8192, 8192, 4, slots=4096)
    assert not segment(name).exists()


def test_frames_that_do_not_fit(name: str) -> None:
    with RingWriter(name, 5, 7, 3) as writer:
        for wrong in (picture(7, 5), picture().astype(np.int32), picture()[0], picture(5, 7, 4)):
            with pytest.raises(ArgumentError, match="frame"):
                writer.write(wrong, 0)
        writer.write(picture(7, 5).transpose(1, 0, 2), 0)  # of any layout in memory


@pytest.mark.parametrize(
    "sizes", [(0, 5, 3), (5, 0, 3), (5, 5, 5), (70000, 5, 3), (5, 5, True), (65536, 65536, 4)]
)
def test_sizes_out_of_range(name: str, sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ArgumentError):
        RingWriter(name, *sizes)
    assert not segment(name).exists()


def test_a_closed_ring(name: str) -> None:
    writer = RingWriter(name, 5, 7, 3)
    writer.close()
    writer.close()
    with pytest.raises(RingError, match="closed"):
        writer.write(picture(), 0)
