"""`fastgan apply`: pictures of every kind in, pictures out, and every way that can go wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastgan as engine
from fastgan.apply.folders import find
from fastgan.errors import ArgumentError
from fastgan.model.signature import Input
from tests import drawing
from tests import image_networks as networks
from tests.cli.conftest import Outcome

Fastgan = Callable[..., Outcome]
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x2.onnx, inpaint.onnx, style.onnx and label.onnx."""
    folder = tmp_path_factory.mktemp("apply-models")
    image = Input("image", "image", ("batch", 3, "h", "w"))
    mask = Input("mask", "mask", ("batch", 1, "h", "w"), range=(0.0, 1.0))
    style = Input("style", "image", ("batch", 3, "sh", "sw"))
    label = Input("label", "label", ("batch", 4), classes=4)
    kinds: dict[str, tuple[nn.Module, list[Input]]] = {
        "x2": (networks.Espcn(), [image]),
        "inpaint": (networks.Inpainter(), [image, mask]),
        "style": (networks.Stylist(), [image, style]),
        "label": (networks.LabelledTranslator(), [image, label]),
    }
    for seed, (name, (module, inputs)) in enumerate(kinds.items()):
        module = networks.seeded(module, seed)
        engine.export(module, folder / f"{name}.onnx", inputs=inputs, verify=False)
    return folder


@pytest.fixture(scope="module")
def x2(models: Path) -> Path:
    return models / "x2.onnx"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes its out/ into the repository."""
    monkeypatch.chdir(tmp_path)


def picture(path: Path, *shape: int, **options: Any) -> Array:
    """A random picture, written to `path`; as it is read again."""
    array = drawing.new_numpy().integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    with Image.open(path) as image:
        return np.asarray(image)


def pixels(path: Path) -> Array:
    with Image.open(path) as image:
        return np.asarray(image)


def made(model: Path, array: Array, **options: Any) -> Array:
    generator = engine.load(model, device="cpu")
    return np.asarray(generator(array, format="pil", **options))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def errors(outcome: Outcome) -> list[str]:
    """The lines on stderr, but for that which says that another backend had to take the model."""
    return [line for line in outcome.err.splitlines() if " on cpu in fp32, because " not in line]


def said(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2, (outcome.code, outcome.out, outcome.err)
    (line,) = errors(outcome)
    assert line.startswith("fastgan: ")
    for word in words:
        assert word in line, f"{word!r} is not in {line!r}"


# What comes out ----------------------------------------------------------------------------------


def test_one_picture(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    array = picture(tmp_path / "photo.png", 9, 13, 3)
    outcome = fastgan("apply", x2, "-i", "photo.png")
    assert outcome.code == 0, outcome.err
    assert np.array_equal(pixels(tmp_path / "out" / "photo_out.png"), made(x2, array))
    assert " on cpu in fp32" in outcome.out
    assert "1 image: " in outcome.out
    assert " images/s" in outcome.out
    assert os.path.join("out", "photo_out.png") in outcome.out
    assert not errors(outcome)


def test_to_a_file_by_name(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    picture(tmp_path / "photo.png", 9, 13, 3)
    assert fastgan("apply", x2, "-i", "photo.png", "-o", "new/large.webp").code == 0
    with Image.open(tmp_path / "new" / "large.webp") as image:
        assert (image.format, image.size) == ("WEBP", (26, 18))


def test_a_folder_keeps_its_tree_and_every_size(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    shapes = {"a.png": (8, 8, 3), "b.png": (8, 8, 3), "c.png": (1, 1, 3), "sub/d.png": (8, 8, 3)}
    shapes |= {"sub/deep/e.png": (21, 5, 4), "sub/deep/f.png": (7, 9), "g.bmp": (5, 5, 3)}
    arrays = {name: picture(tmp_path / "in" / name, *shape) for name, shape in shapes.items()}
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / ".hidden.png").write_text("no picture")
    outcome = fastgan("apply", x2, "-i", "in", "-o", "large", "--suffix", "x2")
    assert outcome.code == 0, outcome.err
    names = {name: f"{Path(name).with_suffix('')}_x2.png" for name in shapes}
    assert files(tmp_path / "large") == sorted(names.values())
    for name, result in names.items():
        array = arrays[name]
        expected = made(x2, array)
        found = pixels(tmp_path / "large" / result)
        difference = np.abs(found.astype(int) - expected)
        # Batched, a value halfway may round the other way.
        assert difference.max() <= 1, name
        assert (difference > 0).mean() < 1e-2, name
    assert "7 images" in outcome.out


@pytest.mark.parametrize(("source", "ext", "result"), [
    ("a.jpg", "auto", "a_out.jpg"),
    ("a.jpeg", "auto", "a_out.jpg"),
    ("a.JPG", "auto", "a_out.jpg"),
    ("a.webp", "auto", "a_out.webp"),
    ("a.tif", "auto", "a_out.png"),
    ("a.png", "jpg", "a_out.jpg"),
    ("a.jpg", "png", "a_out.png"),
])  # fmt: skip
def test_formats(
    fastgan: Fastgan, x2: Path, tmp_path: Path, source: str, ext: str, result: str
) -> None:
    picture(tmp_path / source, 6, 7, 3)
    outcome = fastgan("apply", x2, "-i", source, "-o", ".", "--ext", ext)
    assert outcome.code == 0, outcome.err
    kinds = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
    with Image.open(tmp_path / result) as image:
        assert (image.format, image.size) == (kinds[Path(result).suffix], (14, 12))


def test_quality(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", 40, 40, 3)
    for quality in (30, 95):
        assert (
            fastgan("apply", x2, "-i", "a.jpg", "--quality", quality, "--suffix", quality).code == 0
        )
    sizes = [(tmp_path / "out" / f"a_{quality}.jpg").stat().st_size for quality in (30, 95)]
    assert sizes[0] < sizes[1]


def test_orientation_profile_and_alpha(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    array = picture(tmp_path / "turned.png", 6, 10, 4, exif=exif, icc_profile=b"profile")
    assert fastgan("apply", x2, "-i", "turned.png").code == 0
    with Image.open(tmp_path / "out" / "turned_out.png") as image:
        assert image.mode == "RGBA"
        assert image.info["icc_profile"] == b"profile"
        assert image.getexif().get(0x0112, 1) == 1
        assert np.array_equal(np.asarray(image), made(x2, np.rot90(array, -1).copy()))
    assert fastgan("apply", x2, "-i", "turned.png", "--alpha", "ignore").code == 0
    assert pixels(tmp_path / "out" / "turned_out.png").shape == (20, 12, 3)
    outcome = fastgan("apply", x2, "-i", "turned.png", "--ext", "jpg")
    assert outcome.code == 0
    assert "transparency" in outcome.err
    assert pixels(tmp_path / "out" / "turned_out.jpg").shape == (20, 12, 3)


@pytest.mark.parametrize(("outscale", "size"), [(1, (9, 7)), (0.5, (4, 4)), (3.5, (32, 24))])
def test_outscale(
    fastgan: Fastgan, x2: Path, tmp_path: Path, outscale: float, size: tuple[int, int]
) -> None:
    array = picture(tmp_path / "a.png", 7, 9, 3)
    assert fastgan("apply", x2, "-i", "a.png", "-s", outscale).code == 0
    with Image.open(tmp_path / "out" / "a_out.png") as image:
        assert image.size == size
        wide = Image.fromarray(made(x2, array)).resize(size, Image.LANCZOS)
        assert np.array_equal(np.asarray(image), np.asarray(wide))


def test_tiles(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    array = picture(tmp_path / "a.png", 50, 41, 3)
    assert fastgan("apply", x2, "-i", "a.png", "-t", 16, "--tile-pad", 4).code == 0
    difference = np.abs(pixels(tmp_path / "out" / "a_out.png").astype(int) - made(x2, array))
    assert difference.max() <= 1


def test_masks(fastgan: Fastgan, models: Path, tmp_path: Path) -> None:
    arrays = {name: picture(tmp_path / "in" / name, 12, 12, 3) for name in ("a.png", "b.png")}
    for name, first in (("a.png", 2), ("b.png", 7)):
        mask = np.zeros((12, 12), np.uint8)
        mask[first : first + 3, 4:9] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    model = models / "inpaint.onnx"
    outcome = fastgan("apply", model, "-i", "in", "--mask", "masks", "--suffix", "")
    assert outcome.code == 0, outcome.err
    for name, array in arrays.items():
        known = pixels(tmp_path / "masks" / name) == 0
        found = pixels(tmp_path / "out" / name)
        assert np.array_equal(found[known], array[known])
        assert (found[~known] != array[~known]).any()
    outcome = fastgan("apply", model, "-i", "in/a.png", "--mask", "masks/a.png", "--fill", "black")
    assert outcome.code == 0
    known = pixels(tmp_path / "masks" / "a.png") == 255
    assert np.array_equal(pixels(tmp_path / "out" / "a_out.png")[known], arrays["a.png"][known])
    said(fastgan("apply", model, "-i", "in"), "--mask")
    (tmp_path / "masks" / "b.png").unlink()
    said(fastgan("apply", model, "-i", "in", "--mask", "masks"), "no mask for b.png")


def test_style_and_class(fastgan: Fastgan, models: Path, tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png", 12, 10, 3)
    style = picture(tmp_path / "s.png", 20, 31, 3)
    model = models / "style.onnx"
    assert fastgan("apply", model, "-i", "a.png", "--style", "s.png").code == 0
    found = pixels(tmp_path / "out" / "a_out.png")
    assert np.array_equal(found, made(model, content, style=style))
    said(fastgan("apply", model, "-i", "a.png"), "--style")
    model = models / "label.onnx"
    assert fastgan("apply", model, "-i", "a.png", "--class", 3).code == 0
    found = pixels(tmp_path / "out" / "a_out.png")
    assert np.array_equal(found, made(model, content, labels=3))


def test_a_random_class_belongs_to_the_place_in_the_folder(
    fastgan: Fastgan, models: Path, tmp_path: Path
) -> None:
    model = models / "label.onnx"
    array = picture(tmp_path / "in" / "p0.png", 8, 8, 3)
    for index in range(1, 9):
        (tmp_path / "in" / f"p{index}.png").write_bytes((tmp_path / "in" / "p0.png").read_bytes())
    (tmp_path / "in" / "p4.png").write_bytes(b"broken")
    outcome = fastgan("apply", model, "-i", "in", "--seed", 7, "--batch-size", 2)
    assert outcome.code == 1
    for index in (0, 3, 5, 8):
        found = pixels(tmp_path / "out" / f"p{index}_out.png")
        difference = np.abs(found.astype(int) - made(model, array, seed=7, start=index))
        assert difference.max() <= 1


# What goes wrong ---------------------------------------------------------------------------------


def test_broken_pictures_among_others(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    good = {name: picture(folder / name, 10, 11, 3) for name in ("a.png", "m.png", "z.png")}
    picture(folder / "truncated.jpg", 64, 64, 3)
    whole = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "gone.png").symlink_to("nowhere.png")
    frames = [Image.new("L", (4, 4), color) for color in (10, 200)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    outcome = fastgan("apply", x2, "-i", "in")
    assert outcome.code == 1
    assert "4 images" in outcome.out
    assert "4 of 8 images failed" in outcome.err
    for name in ("truncated.jpg", "text.png", "empty.png", "gone.png"):
        lines = [line for line in outcome.err.splitlines() if name in line]
        assert len(lines) == 1, outcome.err
    assert "moving.gif: the first of 2 frames" in outcome.err
    assert "Traceback" not in outcome.err
    expected = sorted([*(f"{name[0]}_out.png" for name in good), "moving_out.png"])
    assert files(tmp_path / "out") == expected


def test_many_failures_are_counted(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(30):
        (tmp_path / "in" / f"{index}.png").write_text("no picture")
    outcome = fastgan("apply", x2, "-i", "in")
    assert outcome.code == 1
    assert "30 of 30 images failed" in outcome.err
    assert "and 10 more" in outcome.err
    assert not files(tmp_path / "out")


def test_one_broken_picture(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no picture")
    said(fastgan("apply", x2, "-i", "text.png"), "text.png", "no picture")


def test_nothing_to_do(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said(fastgan("apply", x2, "-i", "empty"), "no pictures")
    said(fastgan("apply", x2, "-i", "nowhere"), "nowhere", "no such file")
    assert not (tmp_path / "out").exists()


def test_no_permission(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 4, 4, 3)
    (tmp_path / "file").write_text("")
    said(fastgan("apply", x2, "-i", "a.png", "-o", "file/below"), "file")
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    said(fastgan("apply", x2, "-i", "a.png", "-o", "locked"), "Permission denied")


def test_a_full_disk_is_reported(
    fastgan: Fastgan, x2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(self: Image.Image, file: Any, *_: Any, **__: Any) -> None:
        file.write(b"half a pic")
        raise OSError(28, "No space left on device")

    for name in ("a", "b", "c"):
        picture(tmp_path / "in" / f"{name}.png", 4, 4, 3)
    monkeypatch.setattr(Image.Image, "save", save)
    outcome = fastgan("apply", x2, "-i", "in")
    assert outcome.code == 1
    assert outcome.err.count("No space left on device") == 3
    assert not files(tmp_path / "out")


def test_in_is_out(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    """Results go beside the sources; a second run makes the same again, and nothing of results."""
    array = picture(tmp_path / "a.png", 6, 6, 3)
    picture(tmp_path / "b_out.png", 6, 6, 3)  # no result: there is no b
    for _ in range(2):
        assert fastgan("apply", x2, "-i", ".", "-o", ".").code == 0
        assert files(tmp_path) == ["a.png", "a_out.png", "b_out.png", "b_out_out.png"]
    assert np.array_equal(pixels(tmp_path / "a.png"), array)
    said(fastgan("apply", x2, "-i", ".", "-o", ".", "--suffix", ""), "one of the pictures to read")
    said(fastgan("apply", x2, "-i", "a.png", "-o", "a.png"), "one of the pictures to read")
    assert np.array_equal(pixels(tmp_path / "a.png"), array)


def test_out_below_in(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", 6, 6, 3)
    for _ in range(2):
        assert fastgan("apply", x2, "-i", "in", "-o", "in/large").code == 0
        assert files(tmp_path / "in") == ["a.png", "large/a_out.png"]


def test_two_pictures_with_one_result(fastgan: Fastgan, x2: Path, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", 6, 6, 3)
    picture(tmp_path / "in" / "a.jpg", 6, 6, 3)
    said(fastgan("apply", x2, "-i", "in", "--ext", "png"), "a.jpg and a.png", "--ext auto")
    assert fastgan("apply", x2, "-i", "in").code == 0
    assert files(tmp_path / "out") == ["a_out.jpg", "a_out.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ext", "gif"),
        ("--quality", 0),
        ("--outscale", 0),
        ("--outscale", "nan"),
        ("--tile", -1),
        ("--tile", "big"),
        ("--tile-pad", -1),
        ("--batch-size", 0),
        ("--alpha", "drop"),
        ("--fill", "grey"),
        ("--suffix", "a/b"),
        ("--mask", "a.png"),
        ("--style", "a.png"),
        ("--class", 1),
        ("--device", "tpu"),
    ],
    ids=str,
)
def test_bad_options(fastgan: Fastgan, x2: Path, tmp_path: Path, arguments: tuple[Any]) -> None:
    picture(tmp_path / "a.png", 4, 4, 3)
    said(fastgan("apply", x2, "-i", "a.png", *arguments), str(arguments[0]).strip("-")[:4])


def test_a_model_without_an_image(fastgan: Fastgan, rgb: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 4, 4, 3)
    said(fastgan("apply", rgb, "-i", "a.png"), "takes no picture", "generate")


def test_jobs_come_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b/x.png", "a.png", "c.png", "b/a.png"):
        picture(tmp_path / "in" / name, 2, 2)
    jobs = find(tmp_path / "in", tmp_path / "out", "out", "auto")
    found = [str(job.source.relative_to(tmp_path / "in")) for job in jobs]
    assert found == sorted(found)
    assert [job.index for job in jobs] == [0, 1, 2, 3]
    with pytest.raises(ArgumentError, match="a file"):
        find(tmp_path / "in", tmp_path / "in" / "a.png", "out", "auto")


def test_reading_runs_ahead_but_not_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastgan.apply import folders

    for index in range(40):
        picture(tmp_path / "in" / f"{index:02d}.png", 8, 8, 3)
    jobs = find(tmp_path / "in", tmp_path / "out", "out", "auto")
    begun = []
    read = folders._read
    monkeypatch.setattr(folders, "_read", lambda job: begun.append(job) or read(job))
    monkeypatch.setattr(folders, "_WAITING_BYTES", 3 * 8 * 8 * 3)
    for count, found in enumerate(folders.read_ahead(jobs), 1):
        assert found.job.index == count - 1
        assert len(begun) <= count + 4


def test_writers_wait_for_room() -> None:
    import threading

    from fastgan.apply import folders

    held, most, lock = 0, 0, threading.Lock()
    size = folders._WAITING_BYTES // 3

    def write() -> None:
        nonlocal held
        with lock:
            held -= 1

    job = folders.Job(0, Path("a"), Path("b"))
    with folders.Writers() as writers:
        for _ in range(50):
            writers.reserve(size)
            with lock:
                held += 1
                most = max(most, held)
            writers.submit(job, write, size)
        writers.reserve(1 << 40)  # more than there ever is: alone, it may
        writers.release(1 << 40)
    assert held == 0
    assert most <= 3
    assert torch.is_inference_mode_enabled() is False
