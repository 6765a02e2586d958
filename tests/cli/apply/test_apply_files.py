"""`fastgan apply` and files: no source is lost, traps in folders, and what a format can't hold."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import fastgan as engine
from fastgan.apply import targets
from fastgan.host.files import whole
from fastgan.model import stated as signature_metadata
from fastgan.model.signature import Input, Output, Signature
from tests.cli.apply.test_apply import files, picture, pixels, said
from tests.cli.conftest import Outcome

Fastgan = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in these tests are below the test's own folder."""
    monkeypatch.chdir(tmp_path)


def conv(path: Path, out: int | str = 3, pad: int = 1) -> Path:
    """A 3x3 convolution of colours, and a sigmoid; `out` may be a name, for 4 channels unsaid."""
    channels = out if isinstance(out, int) else 4
    weight = np.random.default_rng(0).normal(0, 0.2, (channels, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[pad] * 4),
            helper.make_node("Sigmoid", ["a"], ["y"]),
        ],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "v"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", out, "H", "V"])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Colours in, colours out, of the same size."""
    return conv(tmp_path / "model.onnx")


def contents() -> dict[str, bytes]:
    return {name: Path(name).read_bytes() for name in files(Path())}


# No source is lost -------------------------------------------------------------------------------


def test_a_format_without_transparency_that_was_asked_for(fastgan: Fastgan, model: Path) -> None:
    picture(Path("photo.png"), 40, 60, 4)
    before = contents()
    outcome = fastgan("apply", model, "-i", "photo.png", "-o", "photo.jpg")
    assert outcome.code == 0, outcome.err
    assert "transparency" in outcome.err
    assert before.items() <= contents().items()
    assert files(Path()) == ["model.onnx", "photo.jpg", "photo.png"]
    assert pixels(Path("photo.jpg")).shape == (40, 60, 3)


def test_two_results_that_only_their_sizes_bring_together(fastgan: Fastgan, model: Path) -> None:
    picture(Path("in/a.webp"), 2, 16383, 3)
    picture(Path("in/a.png"), 20, 20, 3)
    outcome = fastgan("apply", model, "-i", "in", "-o", "out", "-s", 2)
    said(outcome, "a.png and a.webp", "a_out.png", "rename one of them")
    assert not files(Path("out"))
    os.rename("in/a.png", "in/b.png")
    assert fastgan("apply", model, "-i", "in", "-o", "out", "-s", 2).code == 0
    assert files(Path("out")) == ["a_out.png", "b_out.png"]


def test_a_result_that_has_transparency_of_its_own(fastgan: Fastgan, tmp_path: Path) -> None:
    model = conv(tmp_path / "cut.onnx", out=4)
    picture(Path("in/a.jpg"), 8, 8, 3)
    picture(Path("in/b.png"), 8, 8, 3)
    assert fastgan("apply", model, "-i", "in", "-o", "out").code == 0
    assert files(Path("out")) == ["a_out.png", "b_out.png"]
    before = contents()
    picture(Path("in/a.png"), 8, 8, 3)
    said(fastgan("apply", model, "-i", "in", "-o", "in2"), "a.jpg and a.png")
    os.remove("in/a.png")
    picture(Path("one/x.jpg"), 8, 8, 3)
    os.link("one/x.jpg", "one/x.png")
    said(fastgan("apply", model, "-i", "one/x.jpg", "-o", "one", "--suffix", ""), "to read")
    assert before.items() <= contents().items()


def test_a_format_that_turns_out_not_to_hold_a_result(fastgan: Fastgan, tmp_path: Path) -> None:
    model = conv(tmp_path / "cut.onnx", out="channels")
    picture(Path("a.jpg"), 8, 8, 3)
    said(fastgan("apply", model, "-i", "a.jpg"), "transparency", "--ext png")
    assert not files(Path("out"))


@pytest.mark.parametrize("name", ["hard.png", "soft.png", "x/../a.png", "linked/a.png"])
def test_a_source_under_another_name(fastgan: Fastgan, model: Path, name: str) -> None:
    picture(Path("a.png"), 8, 8, 3)
    os.link("a.png", "hard.png")
    os.symlink("a.png", "soft.png")
    os.symlink(".", "linked")
    Path("x").mkdir()
    before = contents()
    said(fastgan("apply", model, "-i", "a.png", "-o", name), "pictures to read")
    said(fastgan("apply", model, "-i", name, "-o", "a.png"), "pictures to read")
    assert contents() == before


def test_masks_are_read_too(fastgan: Fastgan, model: Path) -> None:
    picture(Path("a.png"), 8, 8, 3)
    picture(Path("hole.png"), 8, 8)
    outcome = fastgan("apply", model, "-i", "a.png", "--mask", "hole.png", "-o", "hole.png")
    said(outcome, "hole.png, which is also read")
    said(
        fastgan("apply", model, "-i", "a.png", "--style", "hole.png", "-o", "hole.png"), "also read"
    )


def test_names_that_differ_in_case_alone(
    fastgan: Fastgan, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(Path("in/a.png"), 8, 8, 3)
    picture(Path("in/A.png"), 8, 8, 3)
    assert not targets._folds(Path("in/nowhere"))  # this file system tells them apart
    assert fastgan("apply", model, "-i", "in").code == 0
    assert files(Path("out")) == ["A_out.png", "a_out.png"]
    monkeypatch.setattr(targets, "_folds", lambda folder: True)
    said(fastgan("apply", model, "-i", "in"), "A.png and a.png")


def test_advice_is_not_what_is_in_force(fastgan: Fastgan, model: Path) -> None:
    for name in ("a.bmp", "a.tif"):
        picture(Path("in") / name, 8, 8, 3)
    for ext in ("auto", "png"):  # auto would make png of both
        outcome = fastgan("apply", model, "-i", "in", "--ext", ext)
        said(outcome, "a.bmp and a.tif", "rename one")
        assert "--ext auto" not in outcome.err
    said(fastgan("apply", model, "-i", "in/a.bmp", "-o", "in/a.bmp"), "a.bmp", ".png, .jpg, .webp")


def test_where_no_file_can_be_put(fastgan: Fastgan, model: Path) -> None:
    picture(Path("in/a.png"), 8, 8, 3)
    Path("out/a_out.png").mkdir(parents=True)
    said(fastgan("apply", model, "-i", "in"), "a folder")
    os.rmdir("out/a_out.png")
    os.mkfifo("out/a_out.png")
    said(fastgan("apply", model, "-i", "in"), "a named pipe")


@pytest.mark.parametrize("name", ["large.JPG", "large.jpeg", "large.Png"])
def test_a_file_is_named_as_asked(fastgan: Fastgan, model: Path, name: str) -> None:
    picture(Path("a.png"), 8, 8, 3)
    assert fastgan("apply", model, "-i", "a.png", "-o", name).code == 0
    with Image.open(name) as image:
        assert image.format == ("PNG" if name.endswith("ng") else "JPEG")


# Traps -------------------------------------------------------------------------------------------


def test_what_is_no_picture_file_is_skipped_aloud(fastgan: Fastgan, model: Path) -> None:
    picture(Path("in/ok.png"), 8, 8, 3)
    os.mkfifo("in/pipe.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("in/socket.png")
    os.symlink("/dev/zero", "in/zero.png")
    Path("in/folder.png").mkdir()
    outcome = fastgan("apply", model, "-i", "in")
    assert outcome.code == 0, outcome.err
    assert files(Path("out")) == ["ok_out.png"]
    for name, what in (("pipe", "a named pipe"), ("socket", "a socket"), ("zero", "a device")):
        assert f"{name}.png: {what}" in outcome.err
    said(fastgan("apply", model, "-i", "in/pipe.png"), "pipe.png", "a named pipe")


def test_links_that_lead_nowhere_are_an_error_each(fastgan: Fastgan, model: Path) -> None:
    picture(Path("in/ok.png"), 8, 8, 3)
    os.symlink("self.png", "in/self.png")
    os.symlink("b.png", "in/a.png")
    os.symlink("a.png", "in/b.png")
    os.symlink("nowhere", "in/gone.png")
    outcome = fastgan("apply", model, "-i", "in")
    assert outcome.code == 1, outcome.err
    assert "4 of 5 images failed" in outcome.err
    for name in ("self.png", "a.png", "b.png", "gone.png"):
        assert f"  in/{name}: found " in outcome.err
    assert files(Path("out")) == ["ok_out.png"]
    said(fastgan("apply", model, "-i", "in/self.png"), "self.png", "symbolic links")


def test_what_a_killed_run_left_is_removed(fastgan: Fastgan, model: Path) -> None:
    picture(Path("in/a.png"), 8, 8, 3)
    with whole(Path("a.png")):
        (mine,) = Path().glob(".fastgan-*")
    for process in (os.getpid(), 2**22 + 1):  # the last one is more than there can be
        Path("out").mkdir(exist_ok=True)
        left = mine.name.replace(f"-{os.getpid()}-", f"-{process}-")
        Path("out", left).write_text("half")
    assert fastgan("apply", model, "-i", "in").code == 0
    assert files(Path("out")) == [mine.name, "a_out.png"]


# What comes out ----------------------------------------------------------------------------------


def test_a_model_without_padding_makes_what_it_makes(fastgan: Fastgan, tmp_path: Path) -> None:
    model = conv(tmp_path / "shrinks.onnx", pad=0)
    array = picture(Path("in/p.png"), 40, 48, 3)
    picture(Path("in/q.png"), 40, 48, 4)
    outcome = fastgan("apply", model, "-i", "in")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("transparency is dropped") == 1
    found = pixels(Path("out/p_out.png"))
    assert found.shape == (38, 46, 3)
    wanted = engine.load(model)(array, format="uint8").numpy()[0]
    assert np.abs(found.astype(int) - wanted).max() <= 1  # two are run together
    assert pixels(Path("out/q_out.png")).shape == (38, 46, 3)


@pytest.mark.parametrize("out", [2, 5])
def test_a_result_that_is_no_picture(fastgan: Fastgan, tmp_path: Path, out: int) -> None:
    picture(Path("a.png"), 8, 8, 3)
    model = onnx.load(conv(tmp_path / "m.onnx", out=out))
    ports = (
        (Input("x", "image", ("n", 3, "h", "v")),),
        (Output("y", "image", ("n", out, "H", "V")),),
    )
    stated = signature_metadata.dump(Signature(*ports))
    helper.set_model_props(model, {signature_metadata.KEY: stated})
    onnx.save(model, tmp_path / "m.onnx")
    outcome = fastgan("apply", tmp_path / "m.onnx", "-i", "a.png")
    said(outcome, f"{out} channels", "in Python")


def deep(path: Path, codec: str, format: str) -> None:
    """Colours of 16 bits in a file, by FFmpeg: Pillow writes none."""
    av = pytest.importorskip("av")
    array = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), dtype=np.uint16)
    encoder = av.CodecContext.create(codec, "w")
    encoder.width = encoder.height = 8
    encoder.pix_fmt, encoder.time_base = format, Fraction(1)
    frame = av.VideoFrame.from_ndarray(array, format="rgb48le").reformat(format=format)
    path.write_bytes(b"".join(bytes(p) for f in (frame, None) for p in encoder.encode(f)))


def test_pictures_of_16_bits_are_said_to_lose_them(fastgan: Fastgan, model: Path) -> None:
    Path("in").mkdir()
    deep(Path("in/a.png"), "png", "rgb48be")
    deep(Path("in/b.png"), "png", "rgba64be")
    deep(Path("in/c.tif"), "tiff", "rgb48le")
    Path("in/d.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save("in/e.png")
    picture(Path("in/f.png"), 8, 8, 3)
    outcome = fastgan("apply", model, "-i", "in")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("bits a channel") == 1
    assert "5 of 6 pictures have more than 8 bits a channel" in outcome.err
    assert len(files(Path("out"))) == 6
    assert "bits" not in fastgan("apply", model, "-i", "in/f.png").err


def test_resume_keeps_what_is_there(fastgan: Fastgan, model: Path) -> None:
    Path("in/deep").mkdir(parents=True)
    for index, name in enumerate(("in/a.png", "in/b.jpg", "in/deep/c.png")):
        Image.new("RGB", (4, 4), (80 * index, 0, 0)).save(name)
    assert fastgan("apply", model, "-i", "in", "-o", "out").code == 0
    whole = contents()
    Path("out/deep/c_out.png").unlink()
    Path("out/a_out.png").write_bytes(b"kept")
    done = fastgan("apply", model, "-i", "in", "-o", "out", "--resume")
    assert (done.code, "2 images were there already" in done.out) == (0, True)
    assert contents() == {**whole, "out/a_out.png": b"kept"}
    done = fastgan("apply", model, "-i", "in", "-o", "out", "--resume")
    assert (done.code, done.out) == (0, "3 images were there already\n")


@pytest.mark.parametrize(
    "place",
    ["in/a.png", "in/b.jpg", "hard.png", "link.png", "mask.png", "w.npy", "model.fastgan.json"],
)
def test_the_record_replaces_nothing_that_is_read(
    fastgan: Fastgan, model: Path, place: str
) -> None:
    picture(Path("in/a.png"), 8, 8, 3)
    picture(Path("in/b.jpg"), 8, 8, 3)
    Image.new("L", (8, 8)).save("mask.png")
    np.save("w.npy", np.ones(1))
    Path("model.fastgan.json").write_text("{}")
    os.link("in/a.png", "hard.png")
    os.symlink("in/a.png", "link.png")
    before = contents()
    words = ("-i", "in", "--mask", "mask.png", "-i", "w=w.npy", "--json", place)
    said(fastgan("apply", model, *words), place)
    assert contents() == before


@pytest.mark.parametrize("place", ["out/a_out.png", "out/../out/b_out.jpg"])
def test_the_record_replaces_no_result(fastgan: Fastgan, model: Path, place: str) -> None:
    picture(Path("in/a.png"), 8, 8, 3)
    picture(Path("in/b.jpg"), 8, 8, 3)
    said(fastgan("apply", model, "-i", "in", "--json", place), "--json", "a result")
    assert not Path("out").exists()


def test_resume_keeps_what_pillow_finds_too_large(
    fastgan: Fastgan, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(Path("in/a.png"), 8, 12, 3)
    assert fastgan("apply", model, "-i", "in", "-s", 40).code == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    done = fastgan("apply", model, "-i", "in", "-s", 40, "--resume")
    assert (done.code, "1 image was there already" in done.out) == (0, True)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_resume_sees_what_another_run_made(fastgan: Fastgan, model: Path, name: str) -> None:
    """By another model, or with other options; of results that say how they were made."""
    picture(Path("in") / name, 8, 12, 3)
    picture(Path("in/b.png"), 8, 12, 3)
    assert fastgan("apply", model, "-i", "in", "-s", 2).code == 0
    Path("out/b_out.png").unlink()
    before = contents()
    other = conv(Path("other.onnx"), pad=0)
    before["other.onnx"] = other.read_bytes()
    again = ("-i", "in", "--resume")
    said(fastgan("apply", other, *again, "-s", 2), "sha256", "another --output")
    said(fastgan("apply", model, *again), "outscale 2", "another --output")
    said(fastgan("apply", model, *again, "-s", 2, "--range", "0:1"), "signature None")
    said(fastgan("apply", model, *again, "-s", 2, "--tile", 16), "tile None")
    said(fastgan("apply", model, *again, "-s", 2, "--tile-pad", 4), "tile_pad None")
    if name != "a.png":
        said(fastgan("apply", model, *again, "-s", 2, "--quality", 50), "quality 95")
    assert contents() == before
    done = fastgan("apply", model, *again, "-s", 2)
    assert (done.code, "1 image was there already" in done.out) == (0, True)
    assert fastgan("apply", other, *again, "-s", 2, "-o", "another").code == 0
    assert fastgan("apply", model, "-i", "in", "-o", "silent", "--no-metadata").code == 0
    assert fastgan("apply", other, "-i", "in", "-o", "silent", "--resume").code == 0
    with Image.open(Path("silent") / f"{Path(name).stem}_out{Path(name).suffix}") as image:
        assert "fastgan" not in image.info
        assert not image.getexif()


@pytest.mark.parametrize("ext", ["png", "jpg", "webp"])
def test_resume_sees_a_picture_that_changed(fastgan: Fastgan, model: Path, ext: str) -> None:
    """By what is in it: neither its name nor its time says so."""
    for name in "abc":
        picture(Path(f"in/{name}.png"), 8, 12, 3)
    words = ("apply", model, "-i", "in", "--ext", ext)
    assert fastgan(*words).code == 0
    before, told = contents(), os.stat("in/b.png")
    Image.new("RGB", (12, 8), (9, 250, 9)).save("in/b.png")
    os.utime("in/b.png", ns=(told.st_atime_ns, told.st_mtime_ns))
    os.utime("in/c.png")
    done = fastgan(*words, "--resume")
    assert done.code == 0, done.err
    assert "2 images were there already\n1 image was of another picture\n" in done.out
    changed = {name for name, data in contents().items() if data != before[name]}
    assert changed == {"in/b.png", f"out/b_out.{ext}"}
    done = fastgan(*words, "--resume")
    assert (done.code, done.out) == (0, "3 images were there already\n")
    Path("in/b.png").unlink()
    Path("in/b.png").symlink_to("nowhere")
    done = fastgan(*words, "--resume")
    assert (done.code, done.out) == (0, "3 images were there already\n")


def test_resume_sees_another_mask_or_style(fastgan: Fastgan, tmp_path: Path) -> None:
    """By what is in them, under whichever name."""
    picture(Path("photo.png"), 16, 16, 3)
    for name, value in (("one.png", 0), ("same.png", 0), ("other.png", 255)):
        Image.new("L", (16, 16), value).save(name)
    words = ("apply", "inpaint-photos", "-i", "photo.png")
    assert fastgan(*words, "--mask", "one.png").code == 0
    assert fastgan(*words, "--mask", "same.png", "--resume").code == 0
    said(fastgan(*words, "--mask", "other.png", "--resume"), "a picture of mask")


def test_a_folder_within_the_source_is_not_written_over(
    fastgan: Fastgan, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its pictures are taken for results; with no suffix to tell them, nothing tells that."""
    picture(Path("sub/a.png"), 8, 8, 3)
    picture(Path("sub/x/a.png"), 8, 8, 3)
    before = contents()
    said(fastgan("apply", model, "-i", "sub", "-o", "sub/x", "--suffix", ""), "sub/x/a.png")
    assert contents() == before
    assert fastgan("apply", model, "-i", "sub", "-o", "sub/y", "--suffix", "").code == 0


@pytest.mark.parametrize("value", [70000, -1, 200])
def test_pixels_of_32_bits_are_refused(fastgan: Fastgan, model: Path, value: int) -> None:
    """What is white in them the file does not say; they were cut off at 16 bits."""
    Image.fromarray(np.full((8, 8), value, np.int32)).save("deep.tif")
    said(fastgan("apply", model, "-i", "deep.tif", "-o", "out.png"), "32 bits")
    assert not Path("out.png").exists()
