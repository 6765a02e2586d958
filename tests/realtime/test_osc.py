"""OSC: what python-osc's own client sends is done, and a wrong message stops nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fastgan.errors import ArgumentError
from fastgan.realtime import Drift, Mix, Orbit, Retime

udp_client = pytest.importorskip("pythonosc.udp_client", reason="no python-osc")

from fastgan.realtime.live.osc import Osc  # noqa: E402


def until(test) -> bool:
    """Wait for a datagram to have come through."""
    for _ in range(30_000):
        if test():
            return True
        time.sleep(0.01)
    return False


def test_messages_steer_a_stream(digits, caplog) -> None:
    with Osc(0) as osc, digits.stream(latents=Drift(1)) as stream:
        osc.control(stream)
        client = udp_client.SimpleUDPClient("127.0.0.1", osc.port)
        settings = lambda: stream.controls.settings  # noqa: E731
        for address, value, done in (
            ("/speed", 2.5, lambda: settings().speed == 2.5),
            ("/seed", 9, lambda: settings().walk == Drift(9)),
            ("/seed", 7.0, lambda: settings().walk == Drift(7)),
            ("/pause", 1.0, lambda: settings().paused),
            ("/resume", 0.0, lambda: settings().paused),
            ("/position", 30.0, lambda: settings().base[1] == 30.0),
            ("/step", [], lambda: settings().base[1] == 32.5),
            ("/truncation", 0.5, lambda: settings().space.truncation == 0.5),
            ("/truncation", 0, lambda: settings().space.truncation is None),
            ("/seed", "nine", lambda: "/seed" in caplog.text),
            ("/mix", [1.0], lambda: "/mix" in caplog.text),
            ("/class", 3, lambda: "/class" in caplog.text),
            ("/speed", float("nan"), lambda: "/speed" in caplog.text),
            ("/resume", [], lambda: not settings().paused),
        ):
            client.send_message(address, value)
            assert until(done), address


def test_a_fader_is_a_signal() -> None:
    with Osc(0) as osc:
        signal = osc.signal("/fader/1", 0.25)
        assert signal.at(np.zeros(2)).tolist() == [0.25, 0.25]
        udp_client.SimpleUDPClient("127.0.0.1", osc.port).send_message("/fader/1", 1.0)
        assert until(lambda: signal.at(np.zeros(1))[0] == 1.0)
        Mix(Drift(0), Orbit(1), signal)
        with pytest.raises(ArgumentError, match="/speed"):
            signal.sum_to(np.zeros(1))
        assert Retime(Drift(0), signal).speed is signal
        with pytest.raises(ArgumentError, match="in use"):
            Osc(osc.port)
