"""`fastgan apply` on videos: every frame through the model, at its time, the sound as it was."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import fastgan as library
from fastgan.model import stated
from fastgan.model.signature import Input, Output, Signature
from fastgan.realtime.outputs import video as outputs
from tests.drawing import new_numpy

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastgan[video]'")

RATE, TONE = 16_000, 440.0
#: When frames are shown, in milliseconds: no even rate.
TIMES = (0, 40, 80, 160, 200, 240, 300, 340)


def film(
    path: Path, codec: str = "ffv1", sounds: tuple[str, ...] = ("flac",), late: int = 0
) -> np.ndarray:
    """Write a small video with a tone in each track; its frames, uint8 [n, 24, 32, 3].

    late: milliseconds of sound before the first frame.
    """
    frames = new_numpy().integers(40, 216, (len(TIMES), 6, 8, 3)).astype(np.uint8)
    frames = frames.repeat(4, 1).repeat(4, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 32, 24
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        tracks = [container.add_stream(name, rate=RATE, layout="mono") for name in sounds]
        for image, at in zip(frames, TIMES, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = at + late, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        wave = np.sin(np.arange(int(0.5 * RATE)) * 2 * np.pi * TONE / RATE) * 12_000
        for track in tracks:
            sound = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            sound.sample_rate, sound.pts = RATE, 0
            resampler = av.AudioResampler(track.format, "mono", RATE)
            for part in [*resampler.resample(sound), *resampler.resample(None)]:
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return frames


def times(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [round(1000 * frame.time) for frame in container.decode(video=0)]


def packets(path: Path, track: int = 0) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as container:
        found = container.demux(container.streams.audio[track])
        return [(round(1000 * float(p.pts * p.time_base)), bytes(p)) for p in found if p.size]


def loudest(path: Path) -> float:
    """The frequency that the sound has most of, in Hz."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    sound = np.concatenate(parts).astype(np.float64)
    return float(np.abs(np.fft.rfft(sound))[1:].argmax() + 1) * rate / len(sound)


def resize(folder: Path, scale: int) -> Path:
    """A model that makes each pixel `scale` by `scale`, and images darker."""
    sizes = ["n", 3, "h", "w"]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, sizes) for n in ("x", "y")]
    weights = [
        numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales"),
        numpy_helper.from_array(np.array(0.75 if scale > 1 else 1, np.float32), "dark"),
    ]
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Mul", ["large", "dark"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    image = Input("x", "image", ("n", 3, "h", "w"), range=(0, 1))
    made = Output("y", "image", ("n", 3, "h2", "w2"), range=(0, 1))
    helper.set_model_props(model, {stated.KEY: stated.dump(Signature((image,), (made,)))})
    onnx.save(model, folder / f"x{scale}.onnx")
    return folder / f"x{scale}.onnx"


@pytest.fixture
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resize(tmp_path_factory.mktemp("models"), 2)


@pytest.fixture
def same(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resize(tmp_path_factory.mktemp("models"), 1)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(outputs.CODECS, ".mkv", "ffv1")


def test_frames_times_and_tracks(fastgan, upscaler, tmp_path, exact) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "large.mkv"
    frames = film(source, sounds=("flac", "aac"))
    result = fastgan("apply", upscaler, "-i", source, "-o", target, "--batch-size", 3)
    assert result.code == 0, result.err
    assert "8 frames" in result.out
    made = library.load(upscaler)(torch.from_numpy(frames), format="uint8")
    assert made.shape == (8, 48, 64, 3)
    assert torch.equal(outputs.read(target), made)
    assert times(target) == list(TIMES)
    for track in (0, 1):
        assert packets(target, track) == packets(source, track)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "large.mkv"}


def test_sound_from_before_the_first_frame_is_left_out(fastgan, upscaler, tmp_path, exact) -> None:
    source = tmp_path / "in.mkv"
    film(source, late=200)
    result = fastgan("apply", upscaler, "-i", source, "-o", tmp_path, "--outscale", "1.5")
    assert result.code == 0, result.err
    target = tmp_path / "in_out.mkv"
    shown, kept = times(target), packets(target)
    assert [at - shown[0] for at in shown] == list(TIMES)
    assert outputs.read(target).shape[1:] == (36, 48, 3)
    heard = [(at - shown[0], data) for at, data in kept]
    assert heard == [(at - 200, data) for at, data in packets(source)][-len(kept) :]
    assert -100 < heard[0][0] <= 0 < heard[1][0]  # from the packet that the first frame is in


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"), [(".mp4", "libx264", "aac"), (".webm", "libvpx-vp9", "libopus")]
)
def test_what_browsers_play(fastgan, upscaler, tmp_path, suffix, codec, sound) -> None:
    source = tmp_path / f"in{suffix}"
    frames = film(source, codec, (sound,) if sound == "aac" else ())
    result = fastgan("apply", upscaler, "-i", source, "-o", tmp_path / "results")
    assert result.code == 0, result.err
    target = tmp_path / "results" / f"in_out{suffix}"
    made = library.load(upscaler)(torch.from_numpy(frames), format="uint8")
    error = (outputs.read(target).float() - made).square().mean().sqrt()
    assert error < 12  # two lossy encodings
    if sound == "aac":
        assert [data for _, data in packets(target)] == [data for _, data in packets(source)]


def test_sound_that_a_container_can_t_hold_is_encoded(fastgan, upscaler, tmp_path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.webm"
    film(source)
    result = fastgan("apply", upscaler, "-i", source, "-o", target)
    assert result.code == 0, result.err
    assert loudest(target) == pytest.approx(TONE, abs=4)
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"


def test_a_video_held_upright(fastgan, upscaler, tmp_path) -> None:
    source = tmp_path / "in.mov"
    film(source, "libx264", ())
    plain, data = outputs.read(source), source.read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # the matrix of the track (ISO 14496-12, 8.3.2)
    unit, zero, last = (v.to_bytes(4, "big") for v in (0x10000, 0, 0x40000000))
    assert data[at : at + 36] == unit + zero * 3 + unit + zero * 3 + last
    minus = (-0x10000 & 0xFFFFFFFF).to_bytes(4, "big")
    turned = zero + unit + zero + minus + zero + zero + 2 * zero + last  # to the right
    source.write_bytes(data[:at] + turned + data[at + 36 :])
    result = fastgan("apply", upscaler, "-i", source, "-o", tmp_path / "out.mp4")
    assert result.code == 0, result.err
    right = torch.rot90(plain, -1, (1, 2)).contiguous()
    made = library.load(upscaler)(right, format="uint8")
    found = outputs.read(tmp_path / "out.mp4")
    assert found.shape == (8, 64, 48, 3)
    assert (found.float() - made).square().mean().sqrt() < 12


@pytest.mark.parametrize("matrix", [1, 5])
def test_colours_come_back_by_the_files_own_matrix(fastgan, same, tmp_path, matrix) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.colorspace = matrix
        red = np.full((32, 32, 3), (220, 30, 90), np.uint8)
        frame = av.VideoFrame.from_ndarray(red, format="rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    result = fastgan("apply", same, "-i", source, "-o", target)
    assert result.code == 0, result.err
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.colorspace == matrix
    assert (outputs.read(target).int() - torch.from_numpy(red).int()).abs().max() <= 6


# What is refused ----------------------------------------------------------------------------------


def test_a_damaged_video_leaves_nothing(fastgan, upscaler, tmp_path) -> None:
    source = tmp_path / "in.mp4"
    film(source, "libx264", ("aac",))
    whole = source.read_bytes()
    for data, words in ((whole[: len(whole) // 2], "Invalid data"), (b"words", "Invalid data")):
        source.write_bytes(data)
        result = fastgan("apply", upscaler, "-i", source, "-o", tmp_path / "out.mp4")
        assert result.code == 2
        assert words in result.err
        assert str(source) in result.err
        assert "Traceback" not in result.err
        assert {p.name for p in tmp_path.iterdir()} == {"in.mp4"}


def test_what_is_refused(fastgan, upscaler, rgb, tmp_path, monkeypatch) -> None:
    source, sound = tmp_path / "in.mp4", tmp_path / "sound.mp4"
    film(source, "libx264", ())
    with av.open(str(sound), "w") as container:
        track = container.add_stream("aac", rate=RATE, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, RATE), np.float32), "fltp", "mono")
        silence.sample_rate = RATE
        container.mux([*track.encode(silence), *track.encode(None)])
    taken = source.read_bytes()
    for arguments, words in (
        (("-i", source, "--ext", "png"), "--output result.mkv"),
        (("-i", source, "-o", source), "in.mp4"),
        (("-i", source, "-o", tmp_path / "result.txt"), ".mkv"),
        (("-i", source, "--mask", tmp_path), "--mask"),
        (("-i", tmp_path / "none.mp4"), "none.mp4"),
        (("-i", sound, "-o", tmp_path / "out"), "no pictures in it"),
    ):
        result = fastgan("apply", upscaler, *arguments)
        assert result.code == 2, arguments
        assert words in result.err, result.err
    assert fastgan("apply", rgb, "-i", source).code == 2  # takes no picture
    assert source.read_bytes() == taken
    monkeypatch.setitem(sys.modules, "av", None)
    result = fastgan("apply", upscaler, "-i", source)
    assert result.code == 2
    assert "pip install 'fastgan[video]'" in result.err


def test_resume_keeps_what_is_whole(fastgan, upscaler, tmp_path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    film(source)
    target.write_bytes(b"whole")
    result = fastgan("apply", upscaler, "-i", source, "-o", target, "--resume")
    assert result.code == 0
    assert "1 video was there already" in result.out
    assert target.read_bytes() == b"whole"
