"""The web server of the live page: who may come in, and frames over a WebSocket."""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import secrets
import signal
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastgan.errors import ArgumentError, BackendError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LARGEST_TEXT = 1 << 16
_STATS_SECONDS = 0.25
#: What the page is made of, beside itself.
_PARTS = ("live.css", "live.js", "walk.js", "images.js")


@dataclass(eq=False)
class Client:
    """A browser that looks on. Of the frames that it was too slow for, it gets the newest."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    notes: list[str] = field(default_factory=list)
    frame: bytes | None = None


class Page(Protocol):
    """What the server asks of the page's maker."""

    def hello(self) -> dict[str, Any]:
        """What a page needs to know at first."""

    def report(self) -> dict[str, Any]:
        """Counts and times so far."""

    def look(self) -> None:
        """Somebody has come, or gone."""

    def hear(self, client: Client, message: str | bytes) -> None:
        """A page asks for something, or sends it; called on a thread of its own."""


def _parts(address: str) -> tuple[str | None, str | None]:
    """Of an address: the host's name, and host and port; None where it is none."""
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.netloc
    except ValueError:
        return None, None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Server:
    """Serves one page to any number of browsers.

    Args:
        page: what is served.
        folder: recordings in it can be fetched.
        host: where to listen. Anything but this machine alone needs `token`.
        token: what a visitor's address must contain; None makes one where it is needed.
        largest: bytes that a page may send at once, beside texts.
    """

    def __init__(
        self, page: Page, folder: Path, host: str, token: str | None, largest: int = 0
    ) -> None:
        self._page_of, self._folder, self._host = page, folder, host
        # Twice as much is read before the connection is cut, so that what is a little too large
        # gets an answer.
        self._largest, self._most = largest, max(_LARGEST_TEXT, 2 * largest)
        self.token = token
        if token is None and host not in _LOOPBACK:
            self.token = secrets.token_urlsafe(16)
        self._clients: dict[Client, Any] = {}
        self._last: bytes | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self.port = 0

    # From any thread ----------------------------------------------------------------------------

    @property
    def watched(self) -> bool:
        """Whether somebody looks."""
        return bool(self._clients)

    def publish(self, frame: bytes) -> None:
        """Show a frame to everybody."""

        def put() -> None:
            self._last = frame
            for client in self._clients:
                client.frame = frame
                client.news.set()

        self._soon(put)

    def tell(self, note: dict[str, Any]) -> None:
        """Tell everybody."""
        for client in list(self._clients):
            self.note(client, note)

    def note(self, client: Client, note: dict[str, Any]) -> None:
        """Tell one."""

        def put() -> None:
            client.notes.append(json.dumps(note))
            client.news.set()

        self._soon(put)

    def stop(self) -> None:
        """End `run`."""
        if self._stopped is not None:
            self._soon(self._stopped.set)

    def _soon(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(call)

    # Serving ------------------------------------------------------------------------------------

    def run(self, port: int, started: Callable[[str], None], ended: Callable[[], None]) -> None:
        """Serve until stopped or interrupted.

        Args:
            port: 0 takes a free one.
            started: called with the page's address.
            ended: called while notes can still be told.

        Raises:
            BackendError: aiohttp is not installed.
            ArgumentError: the port is in use.
        """
        try:
            import aiohttp.web  # noqa: F401
        except ImportError:
            raise BackendError("live", "no aiohttp", "pip install 'fastgan[live]'") from None
        asyncio.run(self._serve(port, started, ended))

    async def _serve(
        self, port: int, started: Callable[[str], None], ended: Callable[[], None]
    ) -> None:
        from aiohttp import web

        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name}", self._part)
        app.router.add_get("/frames", self._socket)
        app.router.add_get("/recordings/{name}", self._recording)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, port).start()
            except (OSError, OverflowError) as error:
                used = getattr(error, "errno", None) == errno.EADDRINUSE
                found = f"{port}, which is in use" if used else f"{port} on {self._host}: {error}"
                raise ArgumentError("port", found, "a free port", "0 takes one") from None
            self.port = runner.addresses[0][1]
            if threading.current_thread() is threading.main_thread():
                for sign in (signal.SIGINT, signal.SIGTERM):  # so that recordings are finished
                    with suppress(NotImplementedError):  # Windows
                        self._loop.add_signal_handler(sign, self._stopped.set)
            shown = f"[{self._host}]" if ":" in self._host else self._host
            query = f"?token={self.token}" if self.token else ""
            started(f"http://{shown}:{self.port}/{query}")
            await self._stopped.wait()
        finally:
            await asyncio.to_thread(ended)
            for socket in list(self._clients.values()):
                await socket.close()
            await runner.cleanup()

    @property
    def _guard(self) -> Any:
        """No other site's page, and nobody without the token, gets in."""
        from aiohttp import web

        @web.middleware
        async def guard(request: Any, handler: Any) -> Any:
            origin = request.headers.get("Origin")
            host, from_here = _parts(f"//{request.host}")[0], True
            if origin is not None:
                from_here = _parts(origin)[1] == request.host
            if self.token is not None:
                given = request.query.get("token", "") or request.cookies.get("fastgan", "")
                if not hmac.compare_digest(_bytes(given), _bytes(self.token)):
                    raise web.HTTPForbidden(text="The address needs the token that was printed.\n")
            elif host not in _LOOPBACK:  # a name that was made to lead here
                raise web.HTTPForbidden(text="This page is for this machine alone.\n")
            if not from_here:
                raise web.HTTPForbidden(text="Another site's page may not come in here.\n")
            return await handler(request)

        return guard

    async def _page(self, request: Any) -> Any:
        response = self._file("live.html")
        policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        response.headers["Content-Security-Policy"] = policy + "connect-src 'self'; img-src blob:"
        if self.token is not None:
            response.set_cookie("fastgan", self.token, httponly=True, samesite="Strict")
        return response

    async def _part(self, request: Any) -> Any:
        from aiohttp import web

        if request.match_info["name"] not in _PARTS:
            raise web.HTTPNotFound
        return self._file(request.match_info["name"])

    def _file(self, name: str) -> Any:
        from aiohttp import web

        text = files("fastgan.realtime.live").joinpath("page", name).read_text("utf-8")
        kind = {".html": "html", ".css": "css", ".js": "javascript"}[Path(name).suffix]
        response = web.Response(text=text, content_type=f"text/{kind}")
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _recording(self, request: Any) -> Any:
        from aiohttp import web

        path = self._folder / request.match_info["name"]
        try:
            # A link would lead to whatever it names.
            whole = path.parent == self._folder and stat.S_ISREG(path.lstat().st_mode)
        except (OSError, ValueError):  # no such file; a name that none can have
            whole = False
        if not whole or not path.name.startswith("live-"):
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _socket(self, request: Any) -> Any:
        from aiohttp import WSMsgType, web

        socket = web.WebSocketResponse(max_msg_size=self._most, heartbeat=20, compress=False)
        await socket.prepare(request)
        client = Client(frame=self._last)
        client.notes.append(json.dumps({"hello": self._page_of.hello()}))
        client.news.set()
        self._clients[client] = socket
        self._page_of.look()
        sender = asyncio.create_task(self._send(socket, client))
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                most = _LARGEST_TEXT if message.type == WSMsgType.TEXT else self._largest
                if len(message.data) > most > 0:
                    found = f"{len(message.data)} bytes; needed at most {most}"
                    self.note(client, {"error": f"message: found {found}", "of": "picture"})
                    continue
                await asyncio.to_thread(self._page_of.hear, client, message.data)
        finally:
            self._clients.pop(client, None)
            sender.cancel()
            self._page_of.look()
        return socket

    async def _send(self, socket: Any, client: Client) -> None:
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
                    await socket.send_str(json.dumps({"stats": self._page_of.report()}))
        except (ConnectionError, RuntimeError):
            pass  # it has gone; the reading side notices
