"""An image-to-image model on a page of this machine: pictures and a camera in, results out."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.images import files as image_files
from fastgan.realtime.live.page import LivePage, Serving
from fastgan.realtime.stream.buffers import Frame
from fastgan.realtime.stream.stream import Stream

if TYPE_CHECKING:
    from fastgan.realtime.source import Source

#: Before each picture that a page sends, little-endian: what it is, a number of the page's, and
#: its own time of day in ms; both come back with the result. `page/images.js` writes the same.
SENT = struct.Struct("<Idd")
PICTURE, CAMERA, MASK, STYLE = range(4)

#: What a page may send.
MOST_BYTES = 16 << 20
MOST_PIXELS = 1 << 24

_ASKED = {"labels", "seed", "pause"}
#: Numbers of frames that are on their way.
_MOST_FLYING = 64


class LiveImages(LivePage):
    """Serves an image-to-image model to any number of pages.

    A picture or a frame of a camera replaces the one before it: the newest is run, at its own size,
    which `Generator.__call__` fits to the model. One stream serves each size in turn.

    Args:
        generator: of a model with an image.
        name: of the model, for the title.
        serving: how.
        fps: frames per second that a page's camera sends at most; a result that takes longer than
            a period counts as missed.
        labels, seed: as in `Generator.__call__`, at first.
        inputs: further ones by name, as in `Generator.__call__`.
        budget_ms: as in `Generator.stream`; each new size is held to it.

    Raises:
        ArgumentError: the model takes more than one picture beside a mask and a style.
    """

    def __init__(
        self,
        generator: Source,
        name: str,
        serving: Serving | None = None,
        *,
        fps: float = 30.0,
        labels: Any = None,
        seed: int = 0,
        budget_ms: float | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(generator, name, serving or Serving(), fps, SENT.size + MOST_BYTES)
        ports = [p for p in generator.signature.inputs if p is not generator.signature.image]
        self._mask = next((p for p in ports if p.kind == "mask"), None)
        styles = [p for p in ports if p.kind == "image"]
        if len(styles) > 1 or len([p for p in ports if p.kind == "mask"]) > 1:
            needed = "one that takes a picture, and at most one mask and one style"
            raise ArgumentError("live", f"a model of {1 + len(styles)} pictures", needed)
        self._takes_style = bool(styles)
        self._arguments: dict[str, Any] = {**(inputs or {}), "seed": seed}
        if labels is not None:
            self._arguments["labels"] = labels
        self._budget_ms = budget_ms
        self._picture: Tensor | None = None  # uint8 [H, W, C]
        self._stream: Stream | None = None
        self._shape: tuple[int, ...] = ()
        self._opened = threading.Condition(self._lock)
        self._closed = False
        self._fed = self._first = 0  # how many in all, and before this stream
        self._flying: dict[int, tuple[float, float]] = {}  # by number fed: as in SENT
        self._began_ns = 0
        self._recorded = -1

    # Frames ---------------------------------------------------------------------------------------

    def _take(self) -> Frame | None:
        with self._opened:
            self._opened.wait_for(lambda: self._stream is not None or self._closed, 1.0)
            stream, first = self._stream, self._first
        if self._closed:
            raise StopIteration
        if stream is None:
            return None
        try:
            frame = stream.take(timeout=1.0)
            if frame is not None:
                frame.position += first  # no other stream's frame has this number
            return frame
        except StopIteration:  # another size has come
            return None
        except Exception as error:  # backends fail in ways of their own; the next picture may do
            self._drop(stream)
            self._server.tell({"error": f"the model failed: {error}", "of": "picture"})
            return None

    def _drop(self, stream: Stream) -> None:
        with self._opened:
            if self._stream is stream:
                self._stream = None
        stream.close()

    def _end(self) -> None:
        with self._opened:
            self._closed = True
            stream, self._stream = self._stream, None
            self._opened.notify_all()
        if stream is not None:
            stream.close()

    def _times(self, frame: Frame) -> tuple[float, float]:
        number = int(frame.position)
        with self._lock:
            found = self._flying.get(number, (-1.0, 0.0))
            self._flying = {key: sent for key, sent in self._flying.items() if key > number}
        return found

    def _recorded_as(self, frame: Frame) -> int:
        """By the clock, since pictures come when they come."""
        if self._recorder is not None and not self._recorder.frames:
            self._began_ns, self._recorded = frame.produced_ns, -1
        seconds = (frame.produced_ns - self._began_ns) / 1e9
        self._recorded = max(self._recorded + 1, round(seconds * (self._fps or 30.0)))
        return self._recorded

    # Hearing --------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        if len(data) < SENT.size:
            raise ValueError("a picture is needed behind its header")
        kind, number, sent = SENT.unpack_from(data)
        if kind not in (PICTURE, CAMERA, MASK, STYLE):
            raise ValueError(f"a picture of kind {kind}")
        pixels = _decoded(data[SENT.size :])
        with self._lock:
            if kind == MASK:
                self._take_mask(pixels)
            elif kind == STYLE:
                if not self._takes_style:
                    raise ArgumentError("style", "a model that takes none", "one that does")
                self._arguments["style"] = pixels
            else:
                before, self._picture = self._picture, pixels
                if self._mask is not None and (
                    kind == PICTURE or before is None or before.shape[:2] != pixels.shape[:2]
                ):
                    self._take_mask(torch.zeros(pixels.shape[:2], dtype=torch.uint8))
            self._feed(number, sent)

    def _take_mask(self, white: Tensor) -> None:
        """White is what the model is to fill in, whatever its file says of it."""
        if self._mask is None:
            raise ArgumentError("mask", "a model that takes none", "one that does")
        if self._picture is None or white.shape[:2] != self._picture.shape[:2]:
            needed = "a picture of the same size before it"
            raise ArgumentError("mask", f"{white.shape[1]} x {white.shape[0]} pixels", needed)
        plane = white if white.dim() == 2 else white[:, :, 0]
        self._arguments["mask"] = 255 - plane if self._mask.fill == "black" else plane

    def _feed(self, number: float, sent: float) -> None:
        """Run the picture with all that belongs to it."""
        picture = self._picture
        waits_for_style = self._takes_style and "style" not in self._arguments
        if self._closed or picture is None or waits_for_style:
            return
        if self._stream is None or self._shape != tuple(picture.shape):
            self._open(picture)
        assert self._stream is not None
        if len(self._flying) >= _MOST_FLYING:
            self._flying.pop(next(iter(self._flying)))
        self._flying[self._fed] = number, sent
        self._fed += 1
        self._stream.feed(picture, **self._arguments)

    def _open(self, picture: Tensor) -> None:
        """A stream for pictures of this size, in place of the one before."""
        height, width, channels = self._shape = tuple(picture.shape)
        before, self._stream = self._stream, None
        if before is not None:
            before.close()
            self._record(False)  # a video has one size
        self._server.tell({"says": f"preparing for {width} x {height} pixels"})
        try:
            stream = self._generator.stream(
                fps=self._fps,
                size=(height, width, channels),
                budget_ms=self._budget_ms,
                **self._arguments,
            )
        finally:
            self._server.tell({"says": ""})
        if self._paused:
            stream.pause()
        self._first, self._flying = self._fed, {}
        self._stream = stream
        self._opened.notify_all()

    def _act(self, asked: dict[str, Any]) -> None:
        if not asked.keys() <= _ASKED:
            raise ValueError("an object with keys of " + ", ".join(sorted(_ASKED)))
        with self._lock:
            for name in ("labels", "seed"):
                value = asked.get(name)
                if value is not None:
                    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                        raise ValueError(f"{name}: a whole number of at least 0 is needed")
                    self._arguments[name] = value
            if "pause" in asked:
                self._paused = bool(asked["pause"])
                if self._stream is not None:
                    (self._stream.pause if self._paused else self._stream.resume)()
            if "labels" in asked or "seed" in asked:
                self._feed(-1.0, time.time() * 1e3)

    # Telling --------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """See `LivePage.hello`."""
        signature = self._generator.signature
        return {
            **super().hello(),
            "takes": {
                "mask": self._mask is not None,
                "style": self._takes_style,
                "seed": signature.latent is not None,
                "bytes": MOST_BYTES,
                "pixels": MOST_PIXELS,
            },
        }

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "seed": self._arguments["seed"]}

    def report(self) -> dict[str, Any]:
        """Counts and times of the pictures of this size so far."""
        stream = self._stream
        return {} if stream is None else stream.stats.as_json()


def _decoded(data: bytes) -> Tensor:
    """Uint8 [H, W, 1 or 3]; transparency is dropped."""
    pixels = image_files.read(data, most_pixels=MOST_PIXELS).pixels
    values = pixels.values[0].permute(1, 2, 0)
    if pixels.peak != 255:
        values = (values // 257).to(torch.uint8)
    return values.contiguous()
