"""SIGTERM and SIGHUP end a command as cleanly as Ctrl-C: one line, a code, nothing half done."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Outcome

Fastgan = Callable[..., Outcome]

ENDS = [
    (signal.SIGTERM, 143, "terminated"),
    (signal.SIGHUP, 129, "hung up"),
    (signal.SIGINT, 130, "interrupted"),
]


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Handlers come back, and a signal that nothing handles would end the tests."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only a main thread hears signals")
    if any(signal.getsignal(s) != signal.SIG_DFL for s in (signal.SIGTERM, signal.SIGHUP)):
        pytest.skip("the tests run with signals handled or ignored")
    monkeypatch.chdir(tmp_path)


def send(sign: int) -> None:
    """To this process."""
    os.kill(os.getpid(), sign)
    if sign != signal.SIGINT:
        os.kill(os.getpid(), sign)  # as `timeout` does, which counts as once


def send_in_a_del(sign: int) -> None:
    """Where Python drops what a handler raises."""

    class Closing:
        def __del__(self) -> None:
            send(sign)

    Closing()


def send_in_a_hook(sign: int) -> None:
    """Of the collector, where it does so too."""

    def hook(phase: str, info: object) -> None:
        send(sign)

    gc.callbacks.insert(0, hook)
    gc.collect()
    gc.callbacks.remove(hook)


LOST = [send_in_a_del, send_in_a_hook]


def ending(
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    sign: int,
    at: int,
    by: Callable[[int], None] = send,
) -> None:
    """Let a function send a signal to this process on its `at`-th call, then do what it does."""
    real, calls = getattr(place, name), []

    def sends(*arguments: object, **options: object) -> object:
        calls.append(name)
        if len(calls) == at:
            by(sign)
            if by is not send:
                threading.Event().wait(30)  # else all may be done before it is heard
        return real(*arguments, **options)

    monkeypatch.setattr(place, name, sends)


def ended(outcome: Outcome, code: int, word: str) -> None:
    assert outcome.code == code, (outcome.out, outcome.err)
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"fastgan: {word}")
    for sign in (signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(sign) == signal.SIG_DFL


@pytest.mark.parametrize(("sign", "code", "word"), ENDS)
def test_generate(
    fastgan: Fastgan, rgb: Path, monkeypatch: pytest.MonkeyPatch, sign: int, code: int, word: str
) -> None:
    from fastgan.cli import saving

    with monkeypatch.context() as patch:
        ending(patch, saving, "write", sign, at=20)
        outcome = fastgan("generate", rgb, "--n", 400)
    ended(outcome, code, word)
    there = list(Path("out").iterdir())
    assert 0 < len(there) < 400
    assert f"{len(there)} of 400 images are saved" in outcome.err
    assert "--resume" in outcome.err
    for path in there:
        assert path.name.startswith("sample")
        with Image.open(path) as image:
            image.load()


@pytest.mark.parametrize(("sign", "code", "word"), ENDS)
def test_apply(
    fastgan: Fastgan, monkeypatch: pytest.MonkeyPatch, sign: int, code: int, word: str
) -> None:
    from fastgan.images import files as image_files

    Path("in").mkdir()
    for index in range(12):
        shape = (8, 8 + index, 3)
        Image.fromarray(np.full(shape, index, np.uint8)).save(f"in/{index:02d}.png")
    ending(monkeypatch, image_files, "write", sign, at=3)
    ended(fastgan("apply", "superres-x2", "-i", "in"), code, word)
    for path in Path("out").iterdir():
        assert path.name.endswith("_out.png")
        with Image.open(path) as image:
            image.load()


@pytest.mark.parametrize(("sign", "code", "word"), ENDS)
def test_video(
    fastgan: Fastgan, rgb: Path, monkeypatch: pytest.MonkeyPatch, sign: int, code: int, word: str
) -> None:
    from fastgan.realtime.outputs.video import VideoWriter

    Path("out").mkdir()
    Path("out/video.mp4").write_bytes(b"an older one")
    ending(monkeypatch, VideoWriter, "write", sign, at=5)
    ended(fastgan("video", rgb), code, word)
    assert [p.read_bytes() for p in Path("out").iterdir()] == [b"an older one"]


@pytest.mark.parametrize(("sign", "code", "word"), ENDS)
def test_bench(
    fastgan: Fastgan, rgb: Path, monkeypatch: pytest.MonkeyPatch, sign: int, code: int, word: str
) -> None:
    from fastgan.measure import bench

    ending(monkeypatch, bench, "run", sign, at=1)
    ended(fastgan("bench", rgb, "--n", 1, "--seconds", 600, "--json", "a.json"), code, word)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_stream(fastgan: Fastgan, monkeypatch: pytest.MonkeyPatch, sign: int) -> None:
    from fastgan.errors import RingError
    from fastgan.realtime.ring import stream as ring_stream
    from fastgan.realtime.ring.reader import RingReader

    name = f"/fastgan-signal-{os.getpid()}"
    ending(monkeypatch, ring_stream, "put", sign, at=3)
    outcome = fastgan("stream", "dcgan-digits", "--shm", name)
    assert outcome.code == 0, outcome.err  # it is how a stream ends
    assert "made" in outcome.out
    assert not outcome.err
    with pytest.raises(RingError):
        RingReader(name, timeout=0).__enter__()


@pytest.mark.parametrize("by", LOST)
@pytest.mark.parametrize(("sign", "code", "word"), ENDS)
def test_none_is_lost(
    fastgan: Fastgan,
    rgb: Path,
    monkeypatch: pytest.MonkeyPatch,
    sign: int,
    code: int,
    word: str,
    by: Callable[[int], None],
) -> None:
    from fastgan.cli import saving
    from fastgan.cli.apply.run import Run

    hook = sys.unraisablehook
    with monkeypatch.context() as patch:
        ending(patch, saving.Saver, "put", sign, at=20, by=by)
        outcome = fastgan("generate", rgb, "--n", 400)
    ended(outcome, code, word)
    assert "of 400 images are saved" in outcome.err
    assert sys.unraisablehook is hook
    Path("in").mkdir()
    for index in range(6):
        Image.fromarray(np.full((8, 8 + index, 3), index, np.uint8)).save(f"in/{index}.png")
    ending(monkeypatch, Run, "_group", sign, at=3, by=by)
    ended(fastgan("apply", "superres-x2", "-i", "in", "-o", "made"), code, word)
    assert len(list(Path("made").iterdir())) == 2


@pytest.mark.parametrize("by", LOST)
def test_none_is_lost_that_ends_a_stream(
    fastgan: Fastgan, monkeypatch: pytest.MonkeyPatch, by: Callable[[int], None]
) -> None:
    from fastgan.realtime.ring import stream as ring_stream

    ending(monkeypatch, ring_stream, "put", signal.SIGTERM, at=3, by=by)
    outcome = fastgan("stream", "dcgan-digits", "--shm", f"/fastgan-lost-{os.getpid()}")
    assert outcome.code == 0, outcome.err
    assert "made" in outcome.out
    assert not outcome.err


def test_other_errors_of_a_del_are_told_as_ever(
    fastgan: Fastgan, rgb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastgan.cli import saving

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(str(lost.exc_value)))

    class Failing:
        def __del__(self) -> None:
            raise ValueError("as ever")

    real = saving.Saver.put
    monkeypatch.setattr(saving.Saver, "put", lambda *given: (Failing(), real(*given))[1])
    assert fastgan("generate", rgb).code == 0
    assert told == ["as ever"]


def test_what_ignores_a_signal_goes_on_doing_so(fastgan: Fastgan, rgb: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        assert fastgan("generate", rgb).code == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
