"""NDI and Spout, against stand-ins; test_ndi.py has a receiver of the real one."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from fastgan.errors import ArgumentError, BackendError
from fastgan.realtime.outputs.senders import NdiSender, SpoutSender, rgba


class Calls:
    """Remembers what was called on it."""

    answer = True

    def __init__(self, *arguments, **options) -> None:
        self.calls = [("__init__", arguments, options)]

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, arguments)) or self.answer


def module(monkeypatch, name, **contents) -> None:
    made = ModuleType(name)
    made.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, made)


def test_without_their_packages_they_say_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cyndilib", None)
    monkeypatch.setitem(sys.modules, "cyndilib.sender", None)
    monkeypatch.setitem(sys.modules, "SpoutGL", None)
    with pytest.raises(BackendError, match="pip install cyndilib"):
        NdiSender("stage", 60)
    with pytest.raises(BackendError, match="pip install SpoutGL"):
        SpoutSender("stage")


def test_pictures_are_sent_as_rgba(monkeypatch) -> None:
    module(monkeypatch, "cyndilib")
    module(monkeypatch, "cyndilib.sender", Sender=Calls)
    module(monkeypatch, "cyndilib.video_frame", VideoSendFrame=Calls)
    module(monkeypatch, "cyndilib.wrapper")
    fourcc = SimpleNamespace(RGBA="RGBA")
    module(monkeypatch, "cyndilib.wrapper.ndi_structs", FourCC=fourcc)
    module(monkeypatch, "SpoutGL", SpoutSender=Calls)
    grey = torch.arange(12, dtype=torch.uint8).reshape(3, 4, 1)
    with NdiSender("stage", 60) as ndi:
        ndi.write(grey, 0, 0)
        ndi.write(grey, 1, 0)
        ndi.write(grey[:2], 2, 0)
        ndi.write(grey[:2], 3, 0)
        sent = [call[1][0] for call in ndi._sender.calls if call[0] == "write_video_async"]
        assert ndi._frame.calls[-2:] == [
            ("set_resolution", (4, 3)),
            ("set_resolution", (4, 2)),
        ]
        others = [call[0] for call in ndi._sender.calls[1:] if call[0] != "write_video_async"]
        assert others == ["set_video_frame", "open", "close", "open"]
        assert len(sent) == 4
        assert np.array_equal(sent[0], rgba(grey).ravel())
    assert ndi._sender.calls[-1] == ("close", ())
    with SpoutSender("stage") as spout:
        spout.write(grey, 0, 0)
        calls = spout._sender.calls
    assert calls[1:] == [
        ("setSenderName", ("stage",)),
        ("sendImage", (rgba(grey).tobytes(), 4, 3, 0x1908, False, 0)),
        ("setFrameSync", ("stage",)),
        ("releaseSender", ()),
    ]
    monkeypatch.setattr(Calls, "answer", False)
    with SpoutSender("stage") as spout, pytest.raises(BackendError, match="4x3 pixels refused"):
        spout.write(grey, 0, 0)
    assert calls[-1] == ("releaseSender", ())


def test_grey_and_colour_become_opaque() -> None:
    colour = torch.randint(0, 256, (2, 3, 3), dtype=torch.uint8)
    assert np.array_equal(rgba(colour)[:, :, :3], colour.numpy())
    assert (rgba(colour)[:, :, 3] == 255).all()
    assert (rgba(colour[:, :, :1])[:, :, 2] == colour[:, :, 0].numpy()).all()
    with pytest.raises(ArgumentError, match="2 channels"):
        rgba(colour[:, :, :2])
