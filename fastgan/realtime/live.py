"""A page on this machine that shows a stream and controls it: frames over a WebSocket."""

from __future__ import annotations

import asyncio
import errno
import hmac
import io
import json
import logging
import secrets
import signal
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from torch import Tensor

from fastgan.errors import ArgumentError, BackendError, FastganError
from fastgan.realtime.buffers import Frame
from fastgan.realtime.stream import Sink, Stream
from fastgan.realtime.video import VideoWriter
from fastgan.realtime.walks import Drift, Nudge, Orbit, Walk

if TYPE_CHECKING:
    from fastgan.generator import Generator

log = logging.getLogger("fastgan")

#: What a frame is sent as, and what Pillow calls it.
FORMATS = {"jpeg": ("JPEG", {}), "png": ("PNG", {"compress_level": 1}), "webp": ("WEBP", {})}

#: Before each picture, little-endian: index, position, time of day at which it was whole in ms,
#: and how long it was computed in ms. `live.html` reads the same.
HEADER = struct.Struct("<Qddd")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LARGEST_MESSAGE = 1 << 16
_STATS_SECONDS = 0.25

#: What a page may ask for.
_ASKED = {
    *("walk", "drag", "seed", "speed", "position", "truncation", "labels"),
    *("pause", "step", "record"),
}


@dataclass(eq=False)
class _Client:
    """A browser that looks on. Of the frames that it was too slow for, it gets the newest."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    notes: list[str] = field(default_factory=list)
    frame: bytes | None = None


class Live:
    """Serves one stream to any number of pages.

    Args:
        generator: of a model with a latent.
        name: of the model, for the title.
        stream: with the policy "newest", or frames would pile up behind a slow browser.
        format: a key of `FORMATS`.
        quality: of jpeg and webp.
        folder: where recordings go.
        host: where to listen. Anything but this machine alone needs `token`.
        token: what a visitor's address must contain; None makes one where it is needed.
        seed: what the page shows at first.
        sinks: get every frame too, whether or not somebody looks; they are left open.
    """

    def __init__(
        self,
        generator: Generator,
        name: str,
        stream: Stream,
        *,
        format: str = "jpeg",
        quality: int = 90,
        folder: Path = Path("out"),
        host: str = "127.0.0.1",
        token: str | None = None,
        seed: int = 0,
        sinks: Sequence[Sink] = (),
    ) -> None:
        if format not in FORMATS:
            raise ArgumentError("format", repr(format), ", ".join(FORMATS))
        if not 1 <= quality <= 100:
            raise ArgumentError("quality", str(quality), "1 to 100")
        self._generator, self._name, self._stream = generator, name, stream
        self._format, self._quality, self._folder = format, quality, folder
        self._host = host
        self.token = token
        if token is None and host not in _LOOPBACK:
            self.token = secrets.token_urlsafe(16)
        self._clients: set[_Client] = set()
        self._lock = threading.Lock()
        self._paused = False
        self._recorder: VideoWriter | None = None
        self._error: BaseException | None = None
        self._last: bytes | None = None
        settings = stream.controls.settings
        assert settings.walk is not None
        self._given: Walk = settings.walk
        self._nudge = Nudge(settings.walk)
        self._seed, self._sinks = seed, tuple(sinks)

    # Serving ------------------------------------------------------------------------------------

    def run(self, port: int, ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop` is called, or the process gets SIGINT or SIGTERM.

        Args:
            port: 0 takes a free one.
            ready: called with the page's address once it can be opened.

        Raises:
            BackendError: aiohttp is not installed.
            ArgumentError: the port is in use.
        """
        try:
            import aiohttp.web  # noqa: F401
        except ImportError:
            raise BackendError("live", "no aiohttp", "pip install 'fastgan[live]'") from None
        asyncio.run(self._serve(port, ready))
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self, port: int, ready: Callable[[str], None] | None) -> None:
        from aiohttp import web

        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/frames", self._socket)
        app.router.add_get("/recordings/{name}", self._recording)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._look()
        shower = threading.Thread(target=self._show, name="fastgan-live", daemon=True)
        try:
            try:
                await web.TCPSite(runner, self._host, port).start()
            except (OSError, OverflowError) as error:
                used = getattr(error, "errno", None) == errno.EADDRINUSE
                found = f"{port}, which is in use" if used else f"{port} on {self._host}: {error}"
                raise ArgumentError("port", found, "a free port", "0 takes one") from None
            self.port: int = runner.addresses[0][1]
            shower.start()
            if threading.current_thread() is threading.main_thread():
                for sign in (signal.SIGINT, signal.SIGTERM):  # recordings are finished
                    with suppress(NotImplementedError):  # Windows
                        self._loop.add_signal_handler(sign, self._stopped.set)
            if ready is not None:
                shown = f"[{self._host}]" if ":" in self._host else self._host
                query = f"?token={self.token}" if self.token else ""
                ready(f"http://{shown}:{self.port}/{query}")
            await self._stopped.wait()
        finally:
            self._stream.close()
            if shower.ident is not None:
                await asyncio.to_thread(shower.join)
            self._record(False)
            await runner.cleanup()

    @property
    def _guard(self) -> Any:
        """No other site's page, and nobody without the token, gets in."""
        from aiohttp import web

        @web.middleware
        async def guard(request: Any, handler: Any) -> Any:
            host = urlsplit(f"//{request.host}").hostname
            origin = request.headers.get("Origin")
            if self.token is not None:
                given = request.query.get("token", "") or request.cookies.get("fastgan", "")
                if not hmac.compare_digest(given.encode(), self.token.encode()):
                    raise web.HTTPForbidden(text="The address needs the token that was printed.\n")
            elif host not in _LOOPBACK:  # a name that was made to lead here
                raise web.HTTPForbidden(text="This page is for this machine alone.\n")
            if origin is not None and urlsplit(origin).netloc != request.host:
                raise web.HTTPForbidden(text="Another site's page may not come in here.\n")
            return await handler(request)

        return guard

    async def _page(self, request: Any) -> Any:
        from aiohttp import web

        text = files("fastgan.realtime").joinpath("live.html").read_text("utf-8")
        response = web.Response(text=text, content_type="text/html")
        policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        response.headers["Content-Security-Policy"] = policy + "connect-src 'self'; img-src blob:"
        response.headers["Cache-Control"] = "no-store"
        if self.token is not None:
            response.set_cookie("fastgan", self.token, httponly=True, samesite="Strict")
        return response

    async def _recording(self, request: Any) -> Any:
        from aiohttp import web

        path = self._folder / request.match_info["name"]
        if path.parent != self._folder or not path.name.startswith("live-") or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _socket(self, request: Any) -> Any:
        from aiohttp import WSMsgType, web

        socket = web.WebSocketResponse(max_msg_size=_LARGEST_MESSAGE, heartbeat=20, compress=False)
        await socket.prepare(request)
        client = _Client(frame=self._last)
        client.notes.append(json.dumps({"hello": self._hello()}))
        client.news.set()
        self._clients.add(client)
        self._look()
        sender = asyncio.create_task(self._send(socket, client))
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await asyncio.to_thread(self._hear, client, message.data)
        finally:
            self._clients.discard(client)
            sender.cancel()
            self._look()
        return socket

    async def _send(self, socket: Any, client: _Client) -> None:
        reported = 0.0
        try:
            while not socket.closed:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(client.news.wait(), _STATS_SECONDS)
                client.news.clear()
                frame, client.frame = client.frame, None
                notes, client.notes = client.notes, []
                for note in notes:
                    await socket.send_str(note)
                if frame is not None:
                    await socket.send_bytes(frame)
                if time.monotonic() - reported > _STATS_SECONDS:
                    reported = time.monotonic()
                    await socket.send_str(json.dumps({"stats": self._report()}))
        except (ConnectionError, RuntimeError):
            pass  # it has gone; the reading side notices

    # Showing ------------------------------------------------------------------------------------

    def _show(self) -> None:
        """On a thread: take frames, encode each once, and hand it to all clients."""
        try:
            while True:
                frame = self._stream.take(timeout=1.0)
                if frame is None:
                    continue
                for sink in self._sinks:
                    sink.write(frame.picture, frame.index, frame.produced_ns)
                data = self._encode(frame)
                with self._lock:
                    if self._recorder is not None:
                        self._keep(frame)
                self._loop.call_soon_threadsafe(self._publish, data)
        except StopIteration:
            pass
        except BaseException as error:
            self._error = error
            self._loop.call_soon_threadsafe(self._stopped.set)

    def _encode(self, frame: Frame) -> bytes:
        from PIL import Image

        picture = frame.picture.cpu().numpy()
        name, options = FORMATS[self._format]
        quality = {} if self._format == "png" else {"quality": self._quality}
        file = io.BytesIO()
        age = (time.monotonic_ns() - frame.produced_ns) / 1e6
        compute = (frame.produced_ns - frame.begun_ns) / 1e6
        file.write(HEADER.pack(frame.index, frame.position, time.time() * 1e3 - age, compute))
        image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        image.save(file, name, **options, **quality)
        return file.getvalue()

    def _publish(self, data: bytes) -> None:
        self._last = data
        for client in self._clients:
            client.frame = data
            client.news.set()

    def _keep(self, frame: Frame) -> None:
        assert self._recorder is not None
        try:
            self._recorder.write(frame.picture, frame.index)
        except (OSError, FastganError, ValueError) as error:
            self._recorder.discard()
            self._recorder = None
            self._tell({"error": f"the recording stopped: {error}"})

    def _look(self) -> None:
        """Render only while somebody looks."""
        idle = not (self._clients or self._recorder or self._sinks)
        (self._stream.pause if idle or self._paused else self._stream.resume)()

    # Hearing ------------------------------------------------------------------------------------

    def _hear(self, client: _Client, text: str) -> None:
        """What a page asks for; what it can't have is told to it alone."""
        try:
            self._act(json.loads(text))
        except FastganError as error:
            self._note(client, {"error": str(error)})
        except (ValueError, TypeError, AttributeError, OSError) as error:
            self._note(client, {"error": f"not understood: {error}"})
        else:
            self._tell({"state": self._state()})

    def _act(self, asked: dict[str, Any]) -> None:
        if not isinstance(asked, dict) or not asked.keys() <= _ASKED:
            raise ValueError("an object with keys of " + ", ".join(sorted(_ASKED)))
        stream = self._stream
        with self._lock:
            if "walk" in asked:
                walks = {"drift": Drift(self._seed), "loop": Orbit(self._seed)}
                self._nudge = Nudge(walks.get(asked["walk"], self._given))
                stream.set(walk=self._nudge)
            if "drag" in asked:
                x, y = asked["drag"]
                self._nudge = Nudge(self._nudge.walk, self._nudge.x + x, self._nudge.y + y)
                stream.set(walk=self._nudge)
            if "seed" in asked:
                self._nudge = Nudge(self._nudge.walk.reseeded(asked["seed"]))
                self._seed = asked["seed"]
                stream.set(walk=self._nudge)
        settings: dict[str, Any] = {
            key: asked[key] for key in ("speed", "position", "truncation") if key in asked
        }
        if "labels" in asked:
            labels = asked["labels"]
            by_index = isinstance(labels, dict)
            settings["labels"] = {int(k): v for k, v in labels.items()} if by_index else labels
        if settings:
            stream.set(**settings)
        if "pause" in asked:
            self._paused = bool(asked["pause"])
            self._loop.call_soon_threadsafe(self._look)
        if "step" in asked:
            stream.step(asked["step"])
        if "record" in asked:
            self._record(bool(asked["record"]))

    def _record(self, on: bool) -> None:
        with self._lock:
            if on and self._recorder is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                name = time.strftime("live-%Y%m%d-%H%M%S.mp4")
                fps = self._stream.fps or 30.0
                self._recorder = VideoWriter(self._folder / name, fps)
            elif not on and self._recorder is not None:
                recorder, self._recorder = self._recorder, None
                frames, path = recorder.frames, recorder.path
                recorder.close()
                if frames:
                    self._tell({"recorded": {"name": path.name, "path": str(path)}})

    # Telling ------------------------------------------------------------------------------------

    def _tell(self, note: dict[str, Any]) -> None:
        for client in set(self._clients):
            self._note(client, note)

    def _note(self, client: _Client, note: dict[str, Any]) -> None:
        def put() -> None:
            client.notes.append(json.dumps(note))
            client.news.set()

        self._loop.call_soon_threadsafe(put)

    def _hello(self) -> dict[str, Any]:
        signature = self._generator.signature
        label = signature.label
        classes = list(signature.class_names)
        if label is not None and not classes:
            classes = [str(i) for i in range(min(label.classes or 0, 1000))]
        return {
            "model": self._name,
            "runs": f"{self._generator.backend} on {self._generator.device}, "
            f"{self._generator.precision}",
            "classes": classes,
            "mixes": label is not None and label.dtype.startswith("float"),
            "truncates": signature.latent is not None
            and (signature.latent.distribution or "normal") == "normal",
            "fps": self._stream.fps,
            "type": f"image/{self._format}",
            **self._state(),
        }

    def _state(self) -> dict[str, Any]:
        settings = self._stream.controls.settings
        return {
            "speed": settings.speed,
            "truncation": settings.space.truncation if settings.space else None,
            "seed": self._seed,
            "paused": self._paused,
            "recording": self._recorder is not None,
        }

    def _report(self) -> dict[str, Any]:
        return self._stream.stats.as_json()


def picture_of(data: bytes) -> tuple[tuple[int, float, float, float], Tensor]:
    """A message of the WebSocket as its header's values and the picture, uint8 [H, W, C]."""
    import numpy as np
    import torch
    from PIL import Image

    array = np.array(Image.open(io.BytesIO(data[HEADER.size :])))
    values: Any = HEADER.unpack(data[: HEADER.size])
    return values, torch.from_numpy(array[:, :, None] if array.ndim == 2 else array)
