"""Signals: one number for each frame, out of a sound or an array."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastgan.errors import ArgumentError, BackendError
from fastgan.host import files

Floats = NDArray[np.float64]

#: Sounds are read at this rate, in one channel.
_RATE = 22_050
#: A release of so many seconds: a beat fades, rather than flickers.
_RELEASE = 0.15


@dataclass(frozen=True, eq=False)
class Envelope:
    """A number for each frame, a straight line between two of them, and the last one for ever.

    Args:
        values: one for each frame.
    """

    values: ArrayLike
    _values: Floats = field(init=False, repr=False)
    _sums: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ArgumentError("envelope", f"shape {values.shape}", "[frames], finite numbers")
        object.__setattr__(self, "_values", values)
        # The integral of the straight lines between the values.
        steps = (values[1:] + values[:-1]) / 2.0
        object.__setattr__(self, "_sums", np.concatenate([[0.0], np.cumsum(steps)]))

    @staticmethod
    def of_sound(
        samples: ArrayLike, rate: float, fps: float, band: tuple[float, float] | None = None
    ) -> Envelope:
        """How loud a sound is at each frame, 0 to 1 (its loudest): root mean square, smoothed.

        Args:
            samples: [n], or [n, channels].
            rate: samples per second.
            fps: frames per second.
            band: only what lies between these frequencies in Hz: (20, 150) follows the bass.
        """
        sound = np.array(samples, np.float64)
        sound = sound.mean(1) if sound.ndim == 2 else sound
        if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
            raise ArgumentError("sound", f"shape {sound.shape}", "finite samples [n]")
        if band is not None:
            spectrum = np.fft.rfft(sound)
            pitch = np.fft.rfftfreq(len(sound), 1.0 / rate)
            spectrum[(pitch < band[0]) | (pitch > band[1])] = 0.0
            sound = np.fft.irfft(spectrum, len(sound))
        frames = max(1, int(np.ceil(len(sound) / rate * fps)))
        edges = np.minimum((np.arange(frames + 1) * rate / fps).astype(np.int64), len(sound))
        sums = np.concatenate([[0.0], np.cumsum(sound * sound)])
        counts = np.maximum(1, np.diff(edges))
        loud = np.sqrt(np.maximum(0.0, sums[edges[1:]] - sums[edges[:-1]]) / counts)
        fade = float(np.exp(-1.0 / (_RELEASE * fps)))
        for i in range(1, frames):
            loud[i] = max(loud[i], loud[i - 1] * fade)
        return Envelope(loud / max(float(loud.max()), 1e-12))

    @staticmethod
    def of_file(path: Path, fps: float, band: tuple[float, float] | None = None) -> Envelope:
        """The same of a sound file in any format that FFmpeg reads.

        Raises:
            BackendError: PyAV is not installed.
            ArgumentError: the file holds no sound.
            OSError: it can't be read.
        """
        try:
            import av
        except ImportError:
            raise BackendError("audio", "no PyAV", "pip install 'fastgan[video]'") from None
        parts: list[Any] = []
        files.open_plain(path).close()  # of a pipe FFmpeg would wait for a writer
        try:
            with av.open(str(path)) as container:
                if not container.streams.audio:
                    raise ArgumentError(str(path), "no sound in it", "a sound file")
                resampler = av.AudioResampler("flt", "mono", _RATE)
                for frame in container.decode(audio=0):
                    parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except av.FFmpegError as error:
            raise ArgumentError(str(path), str(error.strerror), "a sound file") from None
        if not parts:
            raise ArgumentError(str(path), "no sound in it", "a sound file")
        return Envelope.of_sound(np.concatenate(parts), _RATE, fps, band)

    @property
    def frames(self) -> int:
        """How many values it has."""
        return len(self._values)

    def scaled(self, low: float, high: float) -> Envelope:
        """0 becomes `low`, and 1 `high`."""
        return Envelope(low + (high - low) * self._values)

    def at(self, positions: Floats) -> Floats:
        """Its values at these frames."""
        return np.interp(positions, np.arange(len(self._values)), self._values)

    def sum_to(self, positions: Floats) -> Floats:
        """What has added up from frame 0 to these frames; before frame 0 the first value counts."""
        last = len(self._values) - 1
        inside = np.clip(positions, 0.0, float(last))
        whole = np.floor(inside).astype(np.int64)
        part = inside - whole
        a, b = self._values[whole], self._values[np.minimum(whole + 1, last)]
        sums = self._sums[whole] + part * (a + part * (b - a) / 2.0)
        sums = sums + np.maximum(0.0, positions - last) * self._values[-1]
        total: Floats = sums + np.minimum(0.0, positions) * self._values[0]
        return total
