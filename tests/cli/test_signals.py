"""SIGTERM and SIGHUP end a command as cleanly as Ctrl-C: one line, a code, nothing half done."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
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
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Handlers come back, and a signal that nothing handles would end the tests."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only a main thread hears signals")
    if any(signal.getsignal(s) != signal.SIG_DFL for s in (signal.SIGTERM, signal.SIGHUP)):
        pytest.skip("the tests run with signals handled or ignored")
    monkeypatch.chdir(tmp_path)
    # Hypothesis times collections of garbage: what a signal raises meanwhile would be lost there.
    called = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = called


def ending(monkeypatch: pytest.MonkeyPatch, place: object, name: str, sign: int, at: int) -> None:
    """Let a function send a signal to this process on its `at`-th call, then do what it does."""
    real, calls = getattr(place, name), []

    def sends(*arguments: object, **options: object) -> object:
        calls.append(name)
        if len(calls) == at:
            os.kill(os.getpid(), sign)
            if sign != signal.SIGINT:
                os.kill(os.getpid(), sign)  # as `timeout` does, which counts as once
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


def test_what_ignores_a_signal_goes_on_doing_so(fastgan: Fastgan, rgb: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        assert fastgan("generate", rgb).code == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
