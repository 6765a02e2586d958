"""`fastgan stream`: its frames are the generator's, and whoever reads them can steer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastgan as library
from fastgan.realtime import RingFrame, RingReader, RingWriter
from tests import drawing
from tests.ring.names import ring_name

pytest.importorskip("fastgan._native", reason="the native part is not built")


@pytest.fixture
def name() -> Iterator[str]:
    with ring_name() as made:
        yield made


class Reading(threading.Thread):
    """Takes every frame of a ring until it ends; no second one is written before it is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, **ask: object) -> None:
        super().__init__()
        self.name_of_ring, self.ask = name, ask
        self.frames: list[RingFrame] = []
        self.there, self.ended = threading.Event(), threading.Event()
        write = RingWriter.write

        def write_then_wait(ring, *arguments, **options) -> None:
            write(ring, *arguments, **options)
            if ring.name == name:
                assert self.there.wait(300)

        monkeypatch.setattr(RingWriter, "write", write_then_wait)
        self.start()

    def run(self) -> None:
        with RingReader(self.name_of_ring, control=True, timeout=300) as reader:
            if self.ask:
                reader.ask(**self.ask)
            self.there.set()
            over = False
            while not over:
                over = self.ended.is_set()  # what was written before that is still to be had
                while (frame := reader.next(timeout=0.1, every=True)) is not None:
                    self.frames.append(frame)

    def finish(self) -> None:
        """The producer has ended."""
        self.ended.set()
        self.join()


@pytest.mark.parametrize("format", ["uint8", "float32"])
def test_the_frames_are_the_generators(fastgan, name, format, monkeypatch) -> None:
    reading = Reading(monkeypatch, name)
    result = fastgan(
        *("stream", "dcgan-digits", "--shm", name, "--frames", 60, "--seed", 3, "--fps", 0),
        *("--format", format, "--slots", 100),
    )
    reading.finish()
    assert result.code == 0, result.err
    assert "60 written" in result.out
    assert reading.frames
    assert reading.frames[-1].sequence == 60
    last = max(frame.index for frame in reading.frames) + 1
    generator = library.load("dcgan-digits")
    with generator.stream(seed=3, policy="every", format=format, frames=last) as stream:
        made = {frame.index: frame.images[0].clone() for frame in stream}
    for frame in reading.frames:
        wanted = made[frame.index].numpy()
        wanted = wanted if format == "uint8" else np.moveaxis(wanted, 0, 2)
        np.testing.assert_array_equal(frame.pixels, wanted)


def test_a_reader_steers(fastgan, name, monkeypatch) -> None:
    reading = Reading(monkeypatch, name, seed=12345, label=3)
    result = fastgan("stream", "dcgan-digits", "--shm", name, "--frames", 200, "--fps", 0)
    reading.finish()
    assert result.code == 0, result.err
    assert "without classes" in result.err  # asked for a class: said, and nothing else happened
    frame = reading.frames[-1]
    assert frame.seed == 12345
    with library.load("dcgan-digits").stream(seed=12345, start=frame.index, frames=1) as stream:
        np.testing.assert_array_equal(frame.pixels, next(stream).images[0].numpy())


def test_a_ring_in_and_a_ring_out(fastgan, name, monkeypatch) -> None:
    """A game's frames, upscaled, for the game to show."""
    pixels = drawing.new_numpy().integers(0, 256, (12, 20, 3), dtype=np.uint8)
    with RingWriter(name, 12, 20, 3) as game:
        ended = threading.Event()

        def play() -> None:
            while not ended.wait(0.01):
                game.write(pixels, 0)

        player = threading.Thread(target=play)
        player.start()
        reading = Reading(monkeypatch, f"{name}-out")
        result = fastgan(
            "stream", "superres-x2", "--from", name, "--shm", f"{name}-out", "--frames", 5
        )
        ended.set()
        player.join()
        reading.finish()
    assert result.code == 0, result.err
    wanted = library.load("superres-x2")(pixels, format="uint8")
    assert wanted.shape == (1, 24, 40, 3)
    np.testing.assert_array_equal(reading.frames[-1].pixels, wanted[0].numpy())


def test_bad_input_is_one_line(fastgan, name) -> None:
    cases = [
        (["dcgan-digits", "--shm", "digits"], "name of a ring"),
        (["dcgan-digits", "--shm", name, "--fps", "-1"], "--fps"),
        (["dcgan-digits", "--shm", name, "--fps", "nan"], "--fps"),
        (["dcgan-digits", "--shm", name, "--seeds", "x"], "seeds"),
        (["dcgan-digits", "--shm", name, "--class", "3"], "class"),
        (["dcgan-digits", "--shm", name, "--from", f"{name}-in"], "no ring of this name"),
        (["superres-x2", "--shm", name], "--from"),
        (["nothing.onnx", "--shm", name], "nothing.onnx"),
        (["dcgan-digits", "--shm", name, "--format", "jpg"], "format"),
        (["dcgan-digits", "--shm", name, "--slots", "1"], "slots"),
        (["dcgan-digits", "--shm", name, "--cuda-ipc"], "--cuda-ipc: found a model on cpu"),
    ]
    for arguments, said in cases:
        result = fastgan("stream", *arguments)
        assert result.code == 2, arguments
        assert said in result.err
        assert len(result.err.splitlines()) == 1
    with RingWriter(name, 5, 5, 3):
        result = fastgan("stream", "dcgan-digits", "--shm", name)
        assert result.code == 2
        assert f"process {os.getpid()}" in result.err
    assert not Path("/dev/shm", name[1:]).exists()
