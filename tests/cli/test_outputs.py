"""Files that commands write beside pictures: checked before long work, never over what is read."""

from __future__ import annotations

import json
import os
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

import fastgan as engine
from fastgan.cli import records
from fastgan.errors import ArgumentError
from fastgan.realtime.live.page import _free
from tests.cli.apply.test_apply import said
from tests.cli.conftest import Outcome

Fastgan = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All is said before a model is loaded."""
    monkeypatch.chdir(tmp_path)

    def load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded first")

    monkeypatch.setattr(engine, "load", load)


def test_a_video_does_not_replace_its_sound(fastgan: Fastgan, rgb: Path) -> None:
    with wave.open("song.wav", "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    os.link("song.wav", "song.mkv")
    before = Path("song.wav").read_bytes()
    said(fastgan("video", rgb, "--audio", "song.wav", "-o", "song.mkv"), "song.wav would be lost")
    assert Path("song.wav").read_bytes() == before
    Path("walk.mp4").mkdir()
    said(fastgan("video", rgb, "-o", "walk.mp4"), "--output", "a folder")
    os.mkfifo("pipe.wav")
    said(fastgan("video", rgb, "--audio", "pipe.wav", "-o", "a.mp4"), "pipe.wav: a named pipe")


@pytest.mark.parametrize("command", [("bench", "--n", 1), ("bench", "--fps", 10), ("evaluate",)])
def test_json_and_plots(fastgan: Fastgan, rgb: Path, command: tuple[object, ...]) -> None:
    Path("a.json").mkdir()
    said(fastgan(*command, rgb, "--json", "a.json"), "--json", "a folder")
    said(fastgan(*command, rgb, "--json", rgb), "would be lost")
    said(fastgan(*command, rgb, "--json", "s3://host/a.json"), "--json", "URL")
    if command[0] == "bench":
        said(fastgan(*command, rgb, "--json", "b.png", "--plot", "b.png"), "--plot", "b.png")
        said(fastgan(*command, rgb, "--plot", "-"), "--plot", "standard")


def test_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    records.check("m.onnx", {"--json": Path("-"), "--plot": None})
    records.write({"a": 1}, Path("-"))
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    records.write({"a": 1}, Path("a.json"))
    records.write({"a": 1}, None)
    assert [p.name for p in Path().iterdir()] == ["a.json"]


def test_a_training_does_not_replace_a_model(fastgan: Fastgan) -> None:
    Path("models").mkdir()
    Path("models/dcgan.onnx").write_text("mine")
    said(fastgan("train", "dcgan", "--out", "models", "--steps", 1), "models/dcgan.onnx, a model")
    assert Path("models/dcgan.onnx").read_text() == "mine"


def test_export_says_at_once_where_no_file_can_be_put(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="a folder"):
        engine.export(nn.Linear(2, 2), tmp_path, latent=2)


def test_two_recordings_of_one_second_are_two_files(tmp_path: Path) -> None:
    path = tmp_path / "live-1.mp4"
    for name in ("live-1.mp4", "live-1-2.mp4", "live-1-3.mp4"):
        assert _free(path) == tmp_path / name
        _free(path).write_text("")
