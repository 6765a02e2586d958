"""A stream on a page of this machine: shows it, and does what the page asks for."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fastgan.errors import ArgumentError, FastganError
from fastgan.realtime.buffers import Frame
from fastgan.realtime.combined import Nudge
from fastgan.realtime.live_server import Client, Server
from fastgan.realtime.stream import Sink, Stream
from fastgan.realtime.video import VideoWriter
from fastgan.realtime.walks import Drift, Orbit, Walk

if TYPE_CHECKING:
    from fastgan.generator import Generator

#: What a frame is sent as, and what Pillow calls it.
FORMATS = {"jpeg": ("JPEG", {}), "png": ("PNG", {"compress_level": 1}), "webp": ("WEBP", {})}

#: Before each picture, little-endian: index, position, time of day at which it was whole in ms,
#: and how long it was computed in ms. `live.html` reads the same.
HEADER = struct.Struct("<Qddd")

#: What a page may ask for.
_ASKED = {
    *("walk", "drag", "seed", "speed", "position", "truncation", "labels"),
    *("pause", "step", "record"),
}


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
        self._server = Server(self, folder, host, token)
        self._lock = threading.Lock()
        self._paused = False
        self._recorder: VideoWriter | None = None
        self._error: BaseException | None = None
        settings = stream.controls.settings
        assert settings.walk is not None
        self._given: Walk = settings.walk
        self._nudge = Nudge(settings.walk)
        self._seed, self._sinks = seed, tuple(sinks)

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
            self._stream.close()
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
                self._server.publish(data)
        except StopIteration:
            pass
        except BaseException as error:
            self._error = error
            self._server.stop()

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

    def _keep(self, frame: Frame) -> None:
        assert self._recorder is not None
        try:
            self._recorder.write(frame.picture, frame.index)
        except (OSError, FastganError, ValueError) as error:
            self._recorder.discard()
            self._recorder = None
            self._server.tell({"error": f"the recording stopped: {error}"})

    def look(self) -> None:
        """Render only while somebody looks."""
        idle = not (self._server.watched or self._recorder or self._sinks)
        (self._stream.pause if idle or self._paused else self._stream.resume)()

    # Hearing ------------------------------------------------------------------------------------

    def hear(self, client: Client, text: str) -> None:
        """What a page asks for; what it can't have is told to it alone."""
        try:
            self._act(json.loads(text))
        except FastganError as error:
            self._server.note(client, {"error": str(error)})
        except (ValueError, TypeError, AttributeError, OSError) as error:
            self._server.note(client, {"error": f"not understood: {error}"})
        else:
            self._server.tell({"state": self._state()})

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
            self.look()
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
                try:
                    recorder.close()
                except OSError as error:
                    self._server.tell({"error": f"the recording is lost: {error}"})
                    return
                if frames:
                    self._server.tell({"recorded": {"name": path.name, "path": str(path)}})

    # Telling --------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """What a page needs to know at first."""
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

    def report(self) -> dict[str, Any]:
        """Counts and times so far."""
        return self._stream.stats.as_json()


def picture_of(data: bytes) -> tuple[tuple[int, float, float, float], Tensor]:
    """A message of the WebSocket as its header's values and the picture, uint8 [H, W, C]."""
    import numpy as np
    import torch
    from PIL import Image

    array = np.array(Image.open(io.BytesIO(data[HEADER.size :])))
    values: Any = HEADER.unpack(data[: HEADER.size])
    return values, torch.from_numpy(array[:, :, None] if array.ndim == 2 else array)
