"""`fastgan video`: the generator's own frames, the same each time, and nothing half written."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

import fastgan as library
from fastgan.realtime.outputs.video import read

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastgan[video]'")

EXACT = ("--codec", "ffv1", "--seeds", "0-3", "--w-frames", "6")


def test_it_is_the_same_twice_and_when_resumed_in_the_middle(fastgan, rgb, tmp_path) -> None:
    videos = {}
    for name, more in {
        "first": (), "again": (), "later": ("--start", "9", "--frames", "15"),
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.mkv"
        result = fastgan("video", rgb, *EXACT, *more, "-o", path)
        assert result.code == 0, result.err
        videos[name] = read(path)
    assert videos["first"].shape == (24, 8, 8, 3)
    assert torch.equal(videos["first"], videos["again"])
    assert torch.equal(videos["first"][9:], videos["later"])
    images = library.load(rgb).generate(4, seed=[0, 1, 2, 3], batch_size=1, format="uint8")
    assert torch.equal(videos["first"][::6], images)
    assert not torch.equal(videos["first"][3], videos["first"][0])


def test_a_grid_has_a_walk_in_each_cell(fastgan, rgb, tmp_path) -> None:
    path = tmp_path / "grid.mkv"
    result = fastgan(
        "video", rgb, "--codec", "ffv1", "--seeds", "0-5", "--grid", "3x2", "--num-keyframes", "2",
        "--w-frames", "2", "--scale", "2", "-o", path,
    )  # fmt: skip
    assert result.code == 0, result.err
    frames = read(path)
    assert frames.shape == (4, 32, 48, 3)
    # Twelve keyframes out of six seeds: they are taken in turns.
    images = library.load(rgb).generate(6, seed=[0, 2, 4, 0, 2, 4], batch_size=6, format="uint8")
    first = frames[0, ::2, ::2].reshape(2, 8, 3, 8, 3).permute(0, 2, 1, 3, 4).reshape(6, 8, 8, 3)
    assert (first.int() - images.int()).abs().max() <= 1


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".mov"])
def test_every_container_plays(fastgan, rgb, tmp_path, suffix) -> None:
    path = tmp_path / f"out{suffix}"
    result = fastgan("video", rgb, "--w-frames", "3", "--seeds", "0,1", "--no-loop", "-o", path,
                     "--scale", "4")  # fmt: skip
    assert result.code == 0, result.err
    frames = read(path)
    assert len(frames) == 4
    image = library.load(rgb).generate(1, seed=0, format="uint8")[0]
    big = image.repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert (frames[0].float() - big.float()).abs().mean() < 40
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_sound_drives_the_speed(fastgan, rgb, tmp_path) -> None:
    import wave

    rate = 8000
    quiet_then_loud = np.concatenate([np.zeros(rate), np.sin(np.arange(rate) * 0.3)])
    with wave.open(str(tmp_path / "song.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((quiet_then_loud * 30000).astype(np.int16).tobytes())
    cut = ("--frames", "30", "--start", "5")
    result = fastgan("video", rgb, "--fps", "20", "--audio", tmp_path / "song.wav", *cut, "-o",
                     tmp_path / "cut.webm")  # fmt: skip
    assert result.code == 0, result.err
    with av.open(str(tmp_path / "cut.webm")) as container:
        assert 1.4 < container.duration / 1e6 < 1.6
    result = fastgan(
        "video", rgb, *EXACT, "--fps", "20", "--audio", tmp_path / "song.wav", "-o",
        tmp_path / "song.mkv",
    )  # fmt: skip
    assert result.code == 0, result.err
    frames = read(tmp_path / "song.mkv").float()
    moved = (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
    assert len(frames) == 40
    assert moved[25:].mean() > 2 * moved[:15].mean()

    with av.open(str(tmp_path / "song.mkv")) as container:  # and it is heard, at its time
        heard = np.concatenate(
            [frame.to_ndarray()[0] for frame in container.decode(container.streams.audio[0])]
        )
    assert 1.9 < len(heard) / 48_000 < 2.1
    assert np.abs(heard[:40_000]).max() < 0.05
    assert np.abs(heard[56_000:90_000]).max() > 0.5


def run_refused(fastgan, says: str, *arguments: object) -> None:
    result = fastgan("video", *arguments)
    assert result.code == 2
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err


def test_bad_options_are_one_line(fastgan, rgb, tmp_path) -> None:
    out = tmp_path / "out.mp4"
    for says, *arguments in (
        ("codec", rgb, "--codec", "h266", "-o", out),
        ("codec", rgb, "--codec", "aac", "-o", out),
        ("suffix", rgb, "-o", tmp_path / "out.txt"),
        ("--fps", rgb, "--fps", "0", "-o", out),
        ("--seeds", rgb, "--seeds", "0-2", "--grid", "2x1", "-o", out),
        ("interpolation", rgb, "--interpolation", "none", "-o", out),
        ("labels", rgb, "--class", "1", "-o", out),
        ("truncation", rgb, "--trunc", "-1", "-o", out),
        ("rgb.onnx: File exists", rgb, "-o", rgb / "out.mp4"),
        ("No such file", rgb, "--audio", tmp_path / "none.wav", "-o", out),
        ("sound", rgb, "--audio", rgb, "-o", out),
        ("", tmp_path / "missing.onnx", "-o", out),
    ):
        run_refused(fastgan, says, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(fastgan, tmp_path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"an older file")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        run_refused(
            fastgan, "File too large", "dcgan-digits", "--w-frames", "40", "--scale", "4",
            "-o", tmp_path / "old.mp4",
        )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"an older file"


def test_a_model_that_breaks_leaves_nothing_behind(fastgan, rgb, tmp_path, monkeypatch) -> None:
    from fastgan.realtime.stream.renderers import LatentRenderer

    render, count = LatentRenderer.render, iter(range(1000))

    def breaks(self, out) -> None:
        if next(count) > 30:
            raise MemoryError
        render(self, out)

    monkeypatch.setattr(LatentRenderer, "render", breaks)
    run_refused(fastgan, "not enough memory", rgb, "-o", tmp_path / "out.mp4")
    assert not list(Path(tmp_path).iterdir())
