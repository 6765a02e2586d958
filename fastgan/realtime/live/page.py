"""What every live page has: frames on their way to browsers, recording, and what is said back."""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError, FastganError
from fastgan.images.formats import WRITTEN
from fastgan.realtime.live import tokens
from fastgan.realtime.live.server import Client, Server
from fastgan.realtime.outputs.video import VideoWriter
from fastgan.realtime.stream.buffers import Frame
from fastgan.realtime.stream.stream import Sink

if TYPE_CHECKING:
    from fastgan.realtime.source import Source

#: What a frame is sent as, by what a browser calls it.
FORMATS = {written.mime: written for written in sorted(WRITTEN.values(), key=lambda w: w.mime)}

#: Before each picture, little-endian: index, position, time of day at which its latency begins in
#: ms, and how long it was computed in ms. `page/live.js` reads the same.
HEADER = struct.Struct("<Qddd")

#: Recordings of streams without a rate of their own.
_RECORDED_FPS = 30.0


@dataclass(frozen=True, slots=True)
class Serving:
    """How a page is served.

    Attributes:
        format: of the pictures sent, a key of `FORMATS`.
        quality: of jpeg and webp.
        folder: where recordings go.
        host: where to listen. Anything but this machine alone needs `token`.
        token: what a visitor's address must contain; None makes one where it is needed.
        sinks: get every frame too, whether or not somebody looks; they are left open.
        models: names that a visitor may choose among; what was chosen then ends the page, and
            stands in its `chosen`.
    """

    format: str = "jpeg"
    quality: int = 90
    folder: Path = Path("out")
    host: str = "127.0.0.1"
    token: str | None = None
    sinks: Sequence[Sink] = ()
    models: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ArgumentError("format", repr(self.format), ", ".join(FORMATS))
        if not 1 <= self.quality <= 100:
            raise ArgumentError("quality", str(self.quality), "1 to 100")
        tokens.check(self.token)


class LivePage(ABC):
    """Serves what a model makes to any number of pages; what it is made of, a subclass knows.

    Args:
        name: of the model, for the title.
        fps: of recordings and of the page's camera; None for no rate of its own.
        largest: bytes that a page may send at once, beside the short texts that all may.
    """

    def __init__(
        self, generator: Source, name: str, serving: Serving, fps: float | None, largest: int = 0
    ) -> None:
        self._generator, self._name, self._serving, self._fps = generator, name, serving, fps
        self._server = Server(self, serving.folder, serving.host, serving.token, largest)
        self._lock = threading.RLock()
        self._paused = False
        self.chosen: str | None = None  # another model that a visitor wants
        self._recorder: VideoWriter | None = None
        self._error: BaseException | None = None

    def run(self, port: int, ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop` is called, or the process gets SIGINT or SIGTERM.

        Args:
            port: 0 takes a free one.
            ready: called with the page's address once it can be opened.

        Raises:
            BackendError: aiohttp is not installed.
            ArgumentError: the port is in use.
        """
        shower = threading.Thread(target=self._show, name="fastgan-live", daemon=True)

        def started(address: str) -> None:
            self.look()
            shower.start()
            if ready is not None:
                ready(address)

        def ended() -> None:
            self._end()
            if shower.ident is not None:
                shower.join()
            self._record(False)

        self._server.run(port, started, ended)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._server.stop()

    @property
    def port(self) -> int:
        """The port that it listens to."""
        return self._server.port

    @property
    def token(self) -> str | None:
        """What a visitor's address must contain."""
        return self._server.token

    # What a subclass knows ------------------------------------------------------------------------

    @abstractmethod
    def _take(self) -> Frame | None:
        """The next frame; None where none came for a while. StopIteration at the end."""

    @abstractmethod
    def _end(self) -> None:
        """No more frames; returns when the rendering thread has ended."""

    def look(self) -> None:  # noqa: B027 - most have nothing to do
        """Somebody has come, or gone."""

    @abstractmethod
    def _act(self, asked: dict[str, Any]) -> None:
        """Do what a page asks for.

        Raises:
            FastganError, ValueError, TypeError, AttributeError: it can't be had, or understood.
        """

    def _receive(self, data: bytes) -> None:
        """Take what a page sends; raises as `_act` does."""
        raise ValueError("this model takes no pictures")

    def _times(self, frame: Frame) -> tuple[float, float]:
        """Of a frame's header: the position, and when its latency begins, in ms of the day."""
        age = (time.monotonic_ns() - frame.produced_ns) / 1e6
        return frame.position, time.time() * 1e3 - age

    def _recorded_as(self, frame: Frame) -> int:
        """The number of a frame in the recording."""
        return frame.index

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """Counts and times so far."""

    # Showing --------------------------------------------------------------------------------------

    def _show(self) -> None:
        """On a thread: take frames, encode each once, and hand it to all clients."""
        try:
            while True:
                frame = self._take()
                if frame is None:
                    continue
                for sink in self._serving.sinks:
                    sink.write(frame.picture, frame.index, frame.produced_ns)
                try:
                    data = self._encode(frame)
                except FastganError:
                    raise
                except (OSError, ValueError) as error:  # more pixels than its format can hold
                    self._server.tell({"error": f"a result can't be sent: {error}"})
                    continue
                with self._lock:
                    if self._recorder is not None:
                        self._keep(frame)
                self._server.publish(data)
        except StopIteration:
            pass
        except BaseException as error:
            self._error = error
            self._server.stop()

    def _encode(self, frame: Frame) -> bytes:
        from PIL import Image

        picture = frame.picture.cpu().numpy()
        channels = picture.shape[2]
        if channels not in (1, 3, 4):
            raise ArgumentError("live", f"{channels} channels", "1 (grey), 3 (RGB) or 4 (RGBA)")
        serving = self._serving
        format = FORMATS[serving.format]
        if channels == 4 and not format.alpha:
            picture = picture[:, :, :3]
        position, begun = self._times(frame)
        compute = (frame.produced_ns - frame.begun_ns) / 1e6
        file = io.BytesIO(HEADER.pack(frame.index, position, begun, compute))
        file.seek(0, io.SEEK_END)
        image = Image.fromarray(picture[:, :, 0] if channels == 1 else picture)
        image.save(file, format.pillow, **format.how(serving.quality, quick=True))
        return file.getvalue()

    # Recording ------------------------------------------------------------------------------------

    def _keep(self, frame: Frame) -> None:
        assert self._recorder is not None
        try:
            self._recorder.write(frame.picture, self._recorded_as(frame))
        except (OSError, FastganError, ValueError) as error:
            self._recorder.discard()
            self._recorder = None
            self._server.tell({"error": f"the recording stopped: {error}"})

    def _record(self, on: bool) -> None:
        with self._lock:
            if on and self._recorder is None:
                self._serving.folder.mkdir(parents=True, exist_ok=True)
                path = _free(self._serving.folder / time.strftime("live-%Y%m%d-%H%M%S.mp4"))
                self._recorder = VideoWriter(path, self._fps or _RECORDED_FPS)
            elif not on and self._recorder is not None:
                recorder, self._recorder = self._recorder, None
                frames, path = recorder.frames, recorder.path
                try:
                    recorder.close()
                except OSError as error:
                    self._server.tell({"error": f"the recording is lost: {error}"})
                    return
                if frames:
                    self._server.tell({"recorded": {"name": path.name, "path": str(path)}})
                else:
                    self._server.tell({"says": "no frame came, so nothing was recorded"})

    # Hearing --------------------------------------------------------------------------------------

    def hear(self, client: Client, message: str | bytes) -> None:
        """What a page asks for or sends; what it can't have is told to it alone."""
        about = {"of": "picture"} if isinstance(message, bytes) else {}
        try:
            if isinstance(message, bytes):
                self._receive(message)
                return
            asked = json.loads(message)
            if not isinstance(asked, dict):
                raise ValueError("an object is needed")
            if "model" in asked:
                self._choose(asked["model"])
                return
            if "record" in asked:
                self._record(bool(asked.pop("record")))
            self._act(asked)
        except (FastganError, OSError) as error:
            self._server.note(client, {"error": str(error), **about})
        except Exception as error:  # a page may send anything; only it hears of that
            self._server.note(client, {"error": f"not understood: {error}", **about})
        else:
            self._server.tell({"state": self._state()})

    def _choose(self, name: Any) -> None:
        if name not in self._serving.models:
            raise ArgumentError("model", repr(name), ", ".join(self._serving.models) or "none")
        if name != self._name:
            self.chosen = name
            self.stop()

    # Telling --------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """What a page needs to know at first."""
        signature = self._generator.signature
        label = signature.label
        classes = list(signature.class_names)
        if label is not None and not classes:
            classes = [str(i) for i in range(min(label.classes or 0, 1000))]
        generator = self._generator
        return {
            "model": self._name,
            "models": list(self._serving.models),
            "runs": f"{generator.backend} on {generator.device}, {generator.precision}",
            "classes": classes,
            "fps": self._fps,
            "type": f"image/{self._serving.format}",
            **self._state(),
        }

    def _state(self) -> dict[str, Any]:
        return {"paused": self._paused, "recording": self._recorder is not None}


def _free(path: Path) -> Path:
    """A path of which there is nothing yet: this one, or with a number behind the name."""
    taken = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(one for one in chain((path,), taken) if not os.path.lexists(one))
