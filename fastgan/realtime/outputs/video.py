"""Frames into a video file, through FFmpeg's libraries (PyAV)."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ArgumentError, BackendError
from fastgan.host import arguments, files

log = logging.getLogger("fastgan")

#: What a suffix is encoded with, unless another codec is asked for.
CODECS = {
    ".mp4": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
    ".gif": "gif",
}
#: Codecs that keep every pixel take colours as they are; for others, the most widely played first.
_EXACT = ("ffv1", "libx264rgb", "png", "apng", "qtrle")
_EXACT_FORMATS = ("gray", "rgb24", "bgr0", "bgra", "argb")
_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv422p10le", "rgb8", "bgr0", "bgra")
#: libx264's and VP9's constant quality: 0 is best, 51 (63) worst.
_QUALITY = {"libx264": "18", "libvpx-vp9": "20", "libx265": "20"}
_SOURCE = {1: "gray", 3: "rgb24", 4: "rgba"}
#: What sound is encoded with; a .gif has none.
_SOUND_CODECS = {".webm": "libopus", ".gif": None}
_SOUND_RATE = 48_000
#: The matrices of colours that are converted to; any other is left to FFmpeg's default.
_MATRICES = (1, 4, 5, 6, 7, 9)
_FASTEST_GIF = 50


@dataclass(frozen=True, slots=True)
class Look:
    """How a video is meant to be shown, in FFmpeg's numbers: the matrix, primaries and transfer of
    its colours (2: not said), and a pixel's width by its height.
    """

    colorspace: int = 2
    primaries: int = 2
    transfer: int = 2
    aspect: Fraction | None = None


def tile(images: Tensor, columns: int) -> Tensor:
    """Images [rows * columns, H, W, C] as one picture [rows * H, columns * W, C]."""
    count, height, width, channels = images.shape
    rows = count // columns
    grid = images.reshape(rows, columns, height, width, channels).permute(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)


class VideoWriter:
    """A sink that writes a video file, whole or not at all; one that is there is replaced.

    Args:
        path: its suffix is the container.
        fps: frames per second; frame `index` is shown at `index / fps` after the first one, so a
            frame that was dropped leaves the one before it standing.
        codec: FFmpeg's name of an encoder; None for the suffix's usual one.
        options: of the encoder, such as {"crf": "18"}.
        scale: so many pixels a side for each.
        sound: a file whose sound goes into the video.
        sound_start: where in it the first frame is, in seconds.
        tracks: whether all its tracks are kept, to their ends, and as they are where the container
            holds them; else the first is encoded anew, up to the last frame.
        tick: what `index` counts, in seconds; None for frames.
        look: what the file says of its colours and pixels.

    Raises:
        BackendError: PyAV is not installed.
        ArgumentError: an unknown suffix or codec; no file can be put there, or it is the sound.
        OSError: the folder can't be written.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        codec: str | None = None,
        options: dict[str, str] | None = None,
        scale: int = 1,
        sound: Path | None = None,
        sound_start: float = 0.0,
        tracks: bool = False,
        tick: Fraction | None = None,
        look: Look | None = None,
    ) -> None:
        av = the_av()
        fps = arguments.number("fps", fps, above=0, needed="a finite number above 0")
        self.path, self._scale = path, arguments.whole("scale", scale)
        self._codec, self._format = _codec(av, path, codec)
        files.check_target("video", path, (sound,))
        self._part = files.part_of(path)
        self._container = av.open(str(self._part), "w")
        if self._codec == "gif" and fps > _FASTEST_GIF:
            text = "%s: browsers show a GIF's frame of less than 20 ms for 100: take at most %d fps"
            log.warning(text, path, _FASTEST_GIF)
        self._rate = Fraction(fps).limit_denominator(1001)
        self._tick = tick or 1 / self._rate
        # MPEG-4's clock has 16 bits, and an .avi has none: frames at their rate.
        self._clock = 1 / self._rate if self._codec == "mpeg4" else self._tick
        self._look, self._tracks, self._matrix = look, tracks, 2
        quality = _QUALITY.get(self._codec)
        self._options = options or ({"crf": quality} if quality else {})
        if self._codec == "libvpx-vp9":
            self._options = {"b": "0", **self._options}
        self._stream: Any = None
        self._sounds: list[_Sound] = []
        sound_codec = _SOUND_CODECS.get(path.suffix.lower(), "aac")
        if sound is not None and sound_codec is not None:
            heard = _Tracks(av, self._container, sound, sound_start, sound_codec)
            self._sounds = heard.all() if tracks else [_Sound(heard.encoded(0, sound_start))]
        self._first, self._shown = 0, -1
        self.frames = 0

    def write(self, frame: Tensor, index: int, produced_ns: int = 0) -> None:
        """Encode a picture, uint8 [H, W, C]."""
        av = the_av()
        array = frame.cpu().numpy()
        if self._scale > 1:
            array = array.repeat(self._scale, 0).repeat(self._scale, 1)
        if self._stream is None:
            self._first = index
            self._open(*array.shape)
        channels = array.shape[2]
        picture = np.ascontiguousarray(array[:, :, 0] if channels == 1 else array)
        shown = av.VideoFrame.from_ndarray(picture, format=_SOURCE[channels])
        at = (index - self._first) * self._tick
        self._shown = max(self._shown + 1, round(at / self._clock))
        if self._matrix in _MATRICES:
            shown = shown.reformat(format=self._stream.pix_fmt, dst_colorspace=self._matrix)
        shown.pts, shown.time_base = self._shown, self._clock
        self._mux(shown)
        self.frames += 1
        self._mux_sound(float(at + 1 / self._rate))

    def _open(self, height: int, width: int, channels: int) -> None:
        if channels not in _SOURCE:
            raise ArgumentError("video", f"{channels} channels", "1 (grey), 3 (RGB) or 4 (RGBA)")
        chosen = self._format
        if chosen == "yuv420p" and (height % 2 or width % 2):
            chosen = "yuv444p"  # 4:2:0 needs even sides
        stream: Any = self._container.add_stream(
            self._codec, rate=self._rate, options=self._options
        )
        stream.width, stream.height, stream.pix_fmt = width, height, chosen
        context = stream.codec_context
        context.time_base = self._clock
        if self._look is not None and not chosen.startswith(("gray", "rgb", "bgr")):
            context.colorspace = self._matrix = self._look.colorspace
            context.color_primaries, context.color_trc = self._look.primaries, self._look.transfer
        if self._look is not None and self._look.aspect:
            context.sample_aspect_ratio = self._look.aspect
        self._stream = stream
        for sound in self._sounds:
            next(sound.packets)  # all streams are there before the first packet
        try:
            stream.codec_context.open()
        except (OSError, ValueError) as error:
            found = f"{width}x{height} in {chosen}: {reason(error)}"
            raise ArgumentError(
                f"codec {self._codec}", found, "a size and options that it takes"
            ) from None

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _mux_sound(self, until: float) -> None:
        """The sound up to so many seconds, so that both lie side by side in the file."""
        for sound in self._sounds:
            while sound.heard < until:
                sound.heard, packets = next(sound.packets, (math.inf, ()))
                for packet in packets:
                    self._container.mux(packet)

    def close(self) -> None:
        """Finish the file, and put it in its place; nothing is left where no frame was written.

        Raises:
            OSError: it can't be written, as where the disk is full; no part of it is left then.
        """
        if self._container is None:
            return
        try:
            if self._stream is not None:
                self._mux(None)
                self._mux_sound(math.inf if self._tracks else 0.0)
            container, self._container = self._container, None
            container.close()
            if self._stream is not None:
                os.replace(self._part, self.path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave nothing behind."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(OSError, ValueError):  # it may fail again: the file goes away anyhow
                container.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


@dataclass
class _Sound:
    """A track on its way: (seconds so far, packets), first nothing, when its stream is there."""

    packets: Iterator[tuple[float, Any]]
    heard: float = 0.0


@dataclass(frozen=True)
class _Tracks:
    """The sound of a file, for a container.

    Attributes:
        start: where in it that begins, in seconds.
        codec: what is encoded with, where it has to be.
    """

    av: Any
    container: Any
    path: Path
    start: float
    codec: str

    def all(self) -> list[_Sound]:
        """Every track, as it is where the container takes it."""
        with self.av.open(str(self.path)) as source:
            found = [
                (track.codec_context.name, float((track.start_time or 0) * track.time_base))
                for track in source.streams.audio
            ]
        taken = self.container.supported_codecs
        return [
            _Sound(self.copied(i) if name in taken else self.encoded(i, self.start - begins))
            for i, (name, begins) in enumerate(found)
        ]

    def copied(self, index: int) -> Iterator[tuple[float, Any]]:
        """A track's packets as they are, from the one that `start` is in.

        From 0 on it is every one: what lies before that readies the decoder.
        """
        with self.av.open(str(self.path)) as source:
            track = source.streams.audio[index]
            stream = self.container.add_stream_from_template(track)
            yield 0.0, ()
            for packet in source.demux(track):
                if packet.pts is None or packet.dts is None:  # the end
                    continue
                skipped = round(self.start / packet.time_base)
                ends = float((packet.pts - skipped + (packet.duration or 0)) * packet.time_base)
                if ends <= 0 < self.start:
                    continue
                packet.pts, packet.dts = packet.pts - skipped, packet.dts - skipped
                packet.stream = stream
                yield ends, (packet,)

    def encoded(self, index: int, start: float) -> Iterator[tuple[float, Any]]:
        """A track encoded anew, from so many seconds after its own beginning."""
        stream = self.container.add_stream(self.codec, rate=_SOUND_RATE)
        yield 0.0, ()
        resampler = self.av.AudioResampler(stream.format, stream.layout, _SOUND_RATE)
        skip = round(start * _SOUND_RATE)
        written = max(0, -skip)
        with self.av.open(str(self.path)) as source:
            for decoded in chain(source.decode(audio=index), (None,)):
                for frame in resampler.resample(decoded):
                    if skip >= frame.samples:
                        skip -= frame.samples
                        continue
                    skip = 0  # to within one frame, a fiftieth of a second
                    frame.pts, frame.time_base = written, Fraction(1, _SOUND_RATE)
                    written += frame.samples
                    yield written / _SOUND_RATE, stream.encode(frame)
        yield written / _SOUND_RATE, stream.encode(None)


def check(path: Path, codec: str | None) -> None:
    """Raise what `VideoWriter` would raise of its arguments, before anything is loaded."""
    _codec(the_av(), path, codec)


def read(path: Path) -> Tensor:
    """All frames of a video, uint8 [n, H, W, 3]."""
    av = the_av()
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames))


def the_av() -> Any:
    """PyAV.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise BackendError("video", "no PyAV", "pip install 'fastgan[video]'") from None
    logging.getLogger("libav").setLevel(logging.CRITICAL)  # its errors are raised as well
    return av


def _codec(av: Any, path: Path, codec: str | None) -> tuple[str, str]:
    """(encoder, pixel format)."""
    if path.suffix.lower() not in CODECS:
        raise ArgumentError("video", f"{path.name!r}", f"a suffix of {', '.join(CODECS)}")
    name = codec or CODECS[path.suffix.lower()]
    try:
        found = av.codec.Codec(name, "w")
    except ValueError:
        needed = "an encoder of FFmpeg's, such as libx264, libx264rgb, libvpx-vp9, libsvtav1, ffv1"
        raise ArgumentError("codec", repr(name), needed) from None
    if found.type != "video":
        raise ArgumentError("codec", f"{name!r}, for {found.type}", "one for video")
    formats = [one.name for one in found.video_formats or ()]
    exact = found.name in _EXACT
    preferred = _EXACT_FORMATS if exact else _FORMATS
    for format in preferred:
        if format in formats and not (exact and format == "gray"):
            return found.name, format
    return found.name, formats[0] if formats else "yuv420p"


def reason(error: Exception) -> str:
    """What an error of FFmpeg's or the system's says."""
    return getattr(error, "strerror", None) or str(error)
