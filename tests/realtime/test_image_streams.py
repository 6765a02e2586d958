"""Frames in, frames out: image-to-image models in the same loop."""

from __future__ import annotations

import threading
import time

import pytest
import torch

import fastgan
from fastgan.errors import ArgumentError, BudgetError


@pytest.fixture(scope="module")
def upscaler():
    """superres-x2: [3, H, W] to [3, 2H, 2W]."""
    return fastgan.load("superres-x2", device="cpu", backend="torch")


def pictures(n):
    return torch.randint(0, 256, (n, 16, 24, 3), dtype=torch.uint8)


def test_every_frame_of_a_source_comes_out(upscaler) -> None:
    given = pictures(12)
    with upscaler.stream(source=given, policy="every") as stream:
        made = [frame.images.clone() for frame in stream]
    assert torch.equal(torch.cat(made), upscaler(given, format="uint8", batch_size=1))
    assert stream.stats.fed == stream.stats.delivered == 12
    assert stream.stats.unused == 0


def test_frames_that_are_fed_are_copied(upscaler) -> None:
    given = pictures(3)
    with upscaler.stream(size=(16, 24), policy="every", buffers=4) as stream:
        camera = torch.empty(16, 24, 3, dtype=torch.uint8)
        for picture in given:
            camera.copy_(picture)
            assert stream.feed(camera.numpy())
            camera.fill_(7)
        stream.finish()
        made = torch.cat([frame.images.clone() for frame in stream])
    assert torch.equal(made, upscaler(given, format="uint8", batch_size=1))


def test_the_queue_is_bounded_and_what_it_lets_go_is_counted(upscaler) -> None:
    with upscaler.stream(size=(16, 24), fps=30) as stream:
        given = pictures(50)
        for picture in given:
            assert stream.feed(picture)
        frame = stream.take()  # nothing ran before this: three were left in the queue
        assert frame.index < 3
        made = upscaler(given[47 + frame.index][None], format="uint8")
        assert torch.equal(frame.images, made)
        assert stream.stats.unused == 47
        assert stream.stats.fed == 50
    with upscaler.stream(size=(16, 24), policy="every") as stream:
        assert [stream.feed(picture, 0.01) for picture in given[:5]] == [True] * 3 + [False] * 2


def test_a_frame_that_came_too_late_is_counted(upscaler) -> None:
    with upscaler.stream(size=(16, 24), fps=50) as stream:
        stream.feed(pictures(1)[0])
        time.sleep(0.1)
        stream.take()
        assert stream.stats.missed == 1


def test_a_frame_like_the_last_is_not_run(upscaler) -> None:
    one, other = pictures(2)
    source = [one, one, one, other, other]
    with upscaler.stream(source=source, policy="every", similarity=0.9999) as stream:
        assert [frame.index for frame in stream] == [0, 3]
    assert stream.stats.similar == 3


def test_an_error_of_the_source_surfaces(upscaler) -> None:
    def camera():
        yield from pictures(2)
        raise OSError("unplugged")

    with upscaler.stream(source=camera(), policy="every") as stream:
        next(stream)
        next(stream)
        with pytest.raises(OSError, match="unplugged"):
            next(stream)


def test_a_source_that_hangs_does_not_hang_close(upscaler, caplog) -> None:
    plugged = threading.Event()

    def camera():
        yield pictures(1)[0]
        plugged.wait()

    with upscaler.stream(source=camera(), policy="every") as stream:
        next(stream)
    plugged.set()
    assert "does not come back" in caplog.text
    assert not [t for t in threading.enumerate() if t.name == "fastgan-stream"]


def test_close_wakes_who_feeds(upscaler) -> None:
    stream = upscaler.stream(size=(16, 24), policy="every")
    refused: list[BaseException] = []

    def feed() -> None:
        try:
            for picture in pictures(10):
                stream.feed(picture)
        except ArgumentError as error:
            refused.append(error)

    thread = threading.Thread(target=feed)
    thread.start()
    time.sleep(0.05)
    stream.close()
    thread.join()
    assert "closed" in str(refused[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "size"),
        ({"source": []}, "source"),
        ({"source": [torch.zeros(3, 8, 8)]}, "source"),
        ({"size": (8,)}, "size"),
        ({"size": (8, 8), "latents": [1]}, "latents"),
        ({"size": (8, 8), "batch": 2}, "batch"),
    ],
)
def test_bad_arguments_are_one_clear_error(upscaler, options, says) -> None:
    with pytest.raises(ArgumentError, match=says):
        upscaler.stream(**options)


def test_a_frame_of_another_size_is_refused(upscaler) -> None:
    with (
        upscaler.stream(size=(16, 24)) as stream,
        pytest.raises(ArgumentError, match="as the stream began"),
    ):
        stream.feed(torch.zeros(16, 16, 3, dtype=torch.uint8))


@pytest.mark.cpu
def test_a_budget_names_sizes(upscaler) -> None:
    with pytest.raises(BudgetError, match=r"for 32x64 in fp32 .*(16x32|8x16) in (fp32|bf16)"):
        upscaler.stream(size=(32, 64), budget_ms=1e-4)
