"""Values from outside never end a stream: not from a page, a ring, or OSC."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path

import numpy as np
import pytest

from fastgan.errors import ArgumentError
from fastgan.realtime import Drift, Orbit, RingReader, RingWriter, Rows, SeedPath, Space
from fastgan.realtime.live.page import Serving
from fastgan.realtime.live.session import Live
from fastgan.realtime.ring.stream import serve
from fastgan.realtime.ring.words import bits, native
from tests.realtime.pages import Served, frame, hear, note
from tests.ring.conftest import name  # noqa: F401 - a fixture

aiohttp = pytest.importorskip("aiohttp", reason="no aiohttp: pip install 'fastgan[live]'")

#: What a page may send, and none of it makes sense.
MESSAGES = (
    '{"speed": 1e308}',
    '{"speed": 1e18}',
    '{"speed": NaN}',
    '{"speed": "fast"}',
    '{"position": 1e308}',
    '{"position": -1e18}',
    '{"position": Infinity}',
    '{"drag": [1e308, 1e308]}',
    '{"drag": [NaN, 0]}',
    '{"drag": [1]}',
    '{"step": 1000000000000000000000}',
    '{"step": 1.5}',
    '{"seed": 36893488147419103232}',
    '{"seed": "one"}',
    '{"seed": -1}',
    '{"truncation": -1}',
    '{"labels": {"0": 1e309}}',
    '{"labels": {"0": 1' + "0" * 400 + "}}",
    '{"labels": 3}',
    "[" * 20_000,
    '{"a":' * 10_000,
    "{",
    "[1]",
)


@pytest.fixture
def served(digits, tmp_path: Path):
    stream = digits.stream(fps=30, latents=Drift(3))
    return Served(Live(digits, "dcgan-digits", stream, Serving("png", folder=tmp_path)))


def test_a_page_can_say_anything(served) -> None:
    async def visit() -> None:
        async with aiohttp.ClientSession() as session:
            looks = await session.ws_connect(served.address + "frames")
            for message in MESSAGES:
                async with session.ws_connect(served.address + "frames") as page:
                    await page.send_str(message)
                    assert await hear(page, note("error")), message
                await hear(looks, frame())  # the others look on
            await looks.send_str('{"speed": 1048576}')  # the fastest there is
            await hear(looks, note("state"))
            for _ in range(3):
                await hear(looks, frame())
            await looks.close()

    with served:
        asyncio.run(asyncio.wait_for(visit(), 300))
    assert served.error is None


def ask(port: int, request: bytes) -> bytes:
    """The status line of the answer to a request, as it is."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        return connection.recv(1 << 16).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {"Host": "["}, 403),
        ("/", {"Host": "[::1"}, 403),
        ("/", {"Host": "evil.example"}, 403),
        ("/", {"Host": "127.0.0.1", "Origin": "http://["}, 403),
        ("/", {"Host": "127.0.0.1", "Origin": "null"}, 403),
        ("/", {"Host": "127.0.0.1"}, 200),
        ("/recordings/live-" + "x" * 4000, {"Host": "localhost"}, 404),
        ("/recordings/live-%00.mp4", {"Host": "localhost"}, 404),
        ("/recordings/live-link.mp4", {"Host": "localhost"}, 404),
        ("/recordings/live-folder.mp4", {"Host": "localhost"}, 404),
        ("/recordings/live-real.mp4", {"Host": "localhost"}, 200),
    ],
)
def test_requests_are_answered(served, tmp_path: Path, caplog, path, headers, status) -> None:
    (tmp_path / "secret").write_text("nobody's")
    (tmp_path / "live-link.mp4").symlink_to(tmp_path / "secret")
    (tmp_path / "live-folder.mp4").mkdir()
    (tmp_path / "live-real.mp4").write_text("a video")
    lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    with served, caplog.at_level(logging.ERROR):
        answer = ask(served.page.port, "\r\n".join(lines).encode())
    assert answer.split()[1] == str(status).encode()
    assert not caplog.records  # aiohttp logs the traceback of a handler that fails


def test_a_token_is_compared_whatever_it_holds(digits, tmp_path: Path) -> None:
    stream = digits.stream(fps=30, latents=Drift(3))
    serving = Serving("png", folder=tmp_path, token="täglich")
    with Served(Live(digits, "dcgan-digits", stream, serving)) as page:
        for given, status in (("", b"403"), ("%ff%fe", b"403"), ("t%C3%A4glich", b"200")):
            request = f"GET /?token={given} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            assert ask(page.page.port, request).split()[1] == status


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_token_opens_nothing(token: str) -> None:
    with pytest.raises(ArgumentError, match="token"):
        Serving(token=token)


WILD = (1e308, -1e308, 1e18, 2.0**53, -1.0, 0.0, 1e-320, float("inf"), float("nan"))


def test_a_ring_reader_can_ask_anything(digits, name: str) -> None:  # noqa: F811
    """By words of its own: `RingReader.ask` refuses what makes no sense, others need not."""
    stream = digits.stream(fps=None, latents=SeedPath((0, 1), frames=7))
    with stream, RingWriter(name, 32, 32, 1) as ring, RingReader(name, control=True) as reader:
        words = [(control, bits(value)) for control in ("speed", "truncation") for value in WILD]
        words += [("label", 2**31 - 1), ("label", 2**64 - 2), ("steps", 2**31), ("steps", 2**40)]
        for control, word in words:
            reader._live().ask(native().FRAMES_CONTROLS[control], word)
            assert serve(stream, ring, frames=2).produced


@pytest.mark.parametrize(
    "walk",
    [
        *(SeedPath((0, 1, 2)), SeedPath((0, 1), loop=False), Drift(1), Drift(1, 1e-300)),
        *(Orbit(2), Rows(np.zeros((3, 4))), Rows(np.zeros((3, 4)), loop=False)),
    ],
    ids=lambda walk: repr(walk)[:40],
)
def test_walks_have_a_latent_everywhere(walk) -> None:
    for position in WILD:
        z = walk.at(position, 2, Space((4,)))
        assert z.shape == (2, 1, 4)
        assert z.isfinite().all()


def test_what_a_stream_is_told_is_bounded(digits) -> None:
    with digits.stream(latents=Drift(0)) as stream:
        for wish in ({"speed": 1e308}, {"position": 1e308}, {"speed": 10**400}):
            with pytest.raises(ArgumentError):
                stream.set(**wish)
        for steps in (2**80, -(2**80), 0.5):
            with pytest.raises(ArgumentError):
                stream.step(steps)
        assert json.dumps(stream.stats.as_json())
