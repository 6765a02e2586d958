"""Control over OSC, the protocol of lighting desks, TouchOSC, Max, Ableton and Autolume.

    with Osc(port=9000) as osc:
        stream = g.stream(fps=60, latents=Mix(Drift(0), Orbit(1), osc.signal("/fader/1")))
        osc.control(stream)

| address | argument | |
|---|---|---|
| /seed | whole number | the walk from another seed |
| /speed | number | frames of the walk per frame |
| /position | number | go to this frame of the walk |
| /truncation | number; 0 for none | |
| /class | index or name | |
| /mix | class, weight, class, weight, ... | |
| /pause, /resume | | 0 does nothing: a button that is let go |
| /step | whole number, 1 if missing | |
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgan.errors import ArgumentError, BackendError
from fastgan.host.closing import Closing
from fastgan.realtime.stream.stream import Stream

log = logging.getLogger("fastgan")

#: The last values of so many addresses are kept.
_MOST_ADDRESSES = 4096


class Osc(Closing):
    """Listens for OSC messages on a UDP port, on a thread of its own.

    Args:
        port: to listen on; 0 takes a free one, which `port` then tells.
        host: whom to listen to: this machine alone, unless said otherwise.

    Raises:
        BackendError: python-osc is not installed.
        ArgumentError: the port is in use.
    """

    def __init__(self, port: int = 9000, host: str = "127.0.0.1") -> None:
        try:
            from pythonosc.dispatcher import Dispatcher
            from pythonosc.osc_server import BlockingOSCUDPServer
        except ImportError:
            raise BackendError("OSC", "no python-osc", "pip install 'fastgan[live]'") from None
        self._values: dict[str, float] = {}
        self._stream: Stream | None = None
        dispatcher = Dispatcher()
        dispatcher.set_default_handler(self._receive)
        try:
            self._server = BlockingOSCUDPServer((host, port), dispatcher)
        except (OSError, OverflowError) as error:
            found = f"{port} on {host}: {getattr(error, 'strerror', None) or error}"
            raise ArgumentError("OSC port", found, "a free port", "0 takes one") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="fastgan-osc", daemon=True
        )
        self._thread.start()

    def control(self, stream: Stream | None) -> None:
        """Let messages control this stream from now on."""
        self._stream = stream

    def signal(self, address: str, start: float = 0.0) -> OscSignal:
        """The last number that came to an address, `start` before there was one."""
        return OscSignal(self._values, address, start)

    def _receive(self, address: str, *values: Any) -> None:
        if values and isinstance(values[0], (int, float)) and np.isfinite(values[0]):
            known = address in self._values or len(self._values) < _MOST_ADDRESSES
            if known:
                self._values[address] = float(values[0])
        if self._stream is None:
            return
        try:
            _act(self._stream, address, values)
        except Exception as error:  # a wrong message never stops a show
            log.warning("OSC %s: %s", address, error)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class OscSignal:
    """A signal that is live, so that what it drives can't be recorded again from the frame alone.

    `stream` frames carry the position all the same; record the frames themselves to keep a show.
    """

    def __init__(self, values: dict[str, float], address: str, start: float) -> None:
        self._values, self._address, self._start = values, address, start

    def at(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The last number, for each frame."""
        return np.full(len(positions), self._values.get(self._address, self._start))

    def sum_to(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Not to be had: how fast it was before is not kept."""
        raise ArgumentError("Retime", "an OSC signal", "an envelope", "send /speed instead")


def _act(stream: Stream, address: str, values: tuple[Any, ...]) -> None:
    value = values[0] if values else None
    if isinstance(value, float) and value.is_integer():  # many a controller sends floats alone
        value = int(value)
    if address in ("/pause", "/resume", "/step") and value == 0:
        return  # a button was let go
    if address == "/pause":
        stream.pause()
    elif address == "/resume":
        stream.resume()
    elif address == "/step":
        stream.step(1 if value is None else value)
    elif address == "/truncation":
        stream.set(truncation=value or None)
    elif address == "/class":
        stream.set(labels=value)
    elif address == "/mix":
        if not values or len(values) % 2:
            raise ArgumentError("/mix", f"{len(values)} arguments", "class, weight, class, ...")
        stream.set(labels=dict(zip(values[::2], values[1::2], strict=True)))
    elif address in ("/seed", "/speed", "/position"):
        if value is None:
            raise ArgumentError(address, "no argument", "a number")
        stream.set(**{address[1:]: value})
