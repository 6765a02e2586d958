"""Pixels: ranges, channels, sizes; files of every kind, and files that are broken."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.errors import ArgumentError
from fastgan.images import files as image_files
from fastgan.images import pixels as images
from tests import drawing

Array = np.ndarray[Any, Any]


def random(*shape: int) -> Array:
    return drawing.new_numpy().integers(0, 256, shape, dtype=np.uint8)


def array(picture: image_files.Picture) -> Array:
    """[H, W, C], alpha included."""
    planes = [picture.pixels.values]
    if picture.pixels.alpha is not None:
        planes.append(picture.pixels.alpha)
    return torch.cat(planes, 1)[0].permute(1, 2, 0).numpy()


# Tensors -----------------------------------------------------------------------------------------


def test_uint8_survives_the_way_through_floats() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    for span in ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-2.1, 2.6)):
        values = images.to_floats(every, 255, span)
        assert values[0] == span[0]
        assert values[-1] == pytest.approx(span[1])
        assert torch.equal(images.to_uint8(values, span).to(torch.uint8), every)


def test_to_uint8_clamps_and_has_no_nan() -> None:
    values = torch.tensor([-9.0, torch.nan, torch.inf, -torch.inf, 0.0, 9.0])
    assert images.to_uint8(values, (-1.0, 1.0)).tolist()[:3] == [0.0, 0.0, 255.0]
    assert images.to_uint8(values, (-1.0, 1.0)).tolist()[3:] == [0.0, 128.0, 255.0]


@pytest.mark.cpu
@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-2.1, 2.6)])
def test_images_are_stored_as_the_operators_would(span: tuple[float, float]) -> None:
    draw = drawing.new_numpy()
    image = images.ImageFormat("image", "uint8", span)
    for shape in ((1, 1, 1, 1), (3, 1, 5, 7), (2, 3, 17, 23), (2, 4, 33, 2), (1, 7, 9, 11),
                  (700, 3, 5, 6), (2, 3, 260, 170)):  # fmt: skip
        low, high = span
        values = draw.uniform(low - 0.2 * (high - low), high + 0.2 * (high - low), shape)
        values.flat[0] = np.nan
        values.flat[-1] = draw.choice([np.nan, np.inf, -np.inf])
        halves = draw.integers(0, 255, values.size) + 0.5  # where rounding to even shows
        values.flat[1:-1:3] = (halves / 255 * (high - low) + low)[1:-1:3]
        made = torch.from_numpy(values.astype(np.float32))
        expected = images.to_uint8(made, span).permute(0, 2, 3, 1).to(torch.uint8)
        last = made.to(memory_format=torch.channels_last)
        for given in (made, last, made.double()):
            out = torch.full(expected.shape, 77, dtype=torch.uint8)
            images.store(given, image, out)
            assert torch.equal(out, expected)
        wide = torch.full((*expected.shape[:3], 2 * shape[1]), 77, dtype=torch.uint8)
        images.store(made, image, wide[..., : shape[1]])
        assert torch.equal(wide[..., : shape[1]], expected)
        assert (wide[..., shape[1] :] == 77).all()


@pytest.mark.parametrize("have", [1, 3])
@pytest.mark.parametrize("want", [1, 2, 3, 4])
def test_channels(have: int, want: int) -> None:
    values = torch.rand(2, have, 4, 5)
    alpha = torch.rand(2, 1, 4, 5)
    result = images.with_channels(values, alpha, want, (0.0, 1.0))
    assert tuple(result.shape) == (2, want, 4, 5)
    if want in (2, 4):
        assert torch.equal(result[:, -1:], alpha)
        opaque = images.with_channels(values, None, want, (0.0, 1.0))
        assert (opaque[:, -1] == 1).all()
    if have == 3 and want == 1:
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        assert torch.allclose(result, (values * weights).sum(1, keepdim=True))
    with pytest.raises(ArgumentError):
        images.with_channels(torch.rand(1, 5, 2, 2), None, want, (0.0, 1.0))


@pytest.mark.parametrize("size", [(1, 1), (16, 20), (37, 90), (100, 7)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_resizing_is_pillows(size: tuple[int, int], dtype: torch.dtype) -> None:
    array = random(37, 41)
    # In floats, since Pillow rounds its uint8 ones twice.
    floats = Image.fromarray(array.astype(np.float32)).resize(size[::-1], Image.BICUBIC)
    expected = np.asarray(floats).clip(array.min(), array.max())
    values = torch.from_numpy(array)[None, None].to(dtype)
    result = images.resize(values, size)
    assert result.dtype == dtype
    assert np.abs(result[0, 0].numpy() - expected).max() <= (
        0.01 if dtype.is_floating_point else 0.51
    )


def test_resizing_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.from_numpy(random(3, 3, 30, 31))
    whole = images.resize(values, (50, 12))
    for planes in (1, 2, 4):
        monkeypatch.setattr(images, "_RESIZED_AT_ONCE", planes * 1500)
        assert torch.equal(images.resize(values, (50, 12)), whole)


def test_to_pil() -> None:
    for channels, mode in ((1, "L"), (3, "RGB"), (4, "RGBA")):
        values = random(2, 3, 4, channels)
        pictures = images.to_pil(torch.from_numpy(values))
        assert [p.mode for p in pictures] == [mode, mode]
        assert np.array_equal(np.asarray(pictures[1]).reshape(3, 4, channels), values[1])
    for wrong in (torch.zeros(2, 3, 4, 2, dtype=torch.uint8), torch.zeros(2, 3, 4, 3)):
        with pytest.raises(ArgumentError):
            images.to_pil(wrong)


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm", "gif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_files_are_read_as_pillow_reads_them(tmp_path: Path, suffix: str, mode: str) -> None:
    path = tmp_path / f"image.{suffix}"
    source = Image.fromarray(random(9, 13, 3)).convert(mode)
    source.save(path, **({"lossless": True} if suffix == "webp" else {}))
    expected = np.asarray(Image.open(path).convert("RGB"))
    found = array(image_files.read(path))
    assert np.array_equal(np.broadcast_to(found, expected.shape), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    pixels = random(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(pixels),
    }
    assert np.array_equal(array(image_files.read(tmp_path / "turned.png")), turned[orientation])


def test_alpha_palettes_and_bits(tmp_path: Path) -> None:
    rgba = random(5, 6, 4)
    source = Image.fromarray(rgba)
    source.save(tmp_path / "rgba.png")
    picture = image_files.read(tmp_path / "rgba.png")
    assert picture.pixels.values.shape == (1, 3, 5, 6)
    assert np.array_equal(array(picture), rgba)

    grey_alpha = source.convert("LA")
    grey_alpha.save(tmp_path / "la.png")
    assert np.array_equal(array(image_files.read(tmp_path / "la.png")), np.asarray(grey_alpha))

    palette = Image.fromarray(rgba[..., :3]).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=3)
    expected = np.asarray(Image.open(tmp_path / "palette.png").convert("RGBA"))
    assert np.array_equal(array(image_files.read(tmp_path / "palette.png")), expected)

    bits = Image.fromarray(rgba[..., 0]).convert("1")
    bits.save(tmp_path / "bits.png")
    expected = np.asarray(bits.convert("L"))[:, :, None]
    assert np.array_equal(array(image_files.read(tmp_path / "bits.png")), expected)

    source.convert("RGB").convert("CMYK").save(tmp_path / "cmyk.tif")
    expected = np.asarray(Image.open(tmp_path / "cmyk.tif").convert("RGB"))
    assert np.array_equal(array(image_files.read(tmp_path / "cmyk.tif")), expected)


def test_sixteen_bits_of_grey_are_kept(tmp_path: Path) -> None:
    deep = drawing.new_numpy().integers(0, 65536, (7, 5), dtype=np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
        pixels = image_files.read(tmp_path / f"deep.{suffix}").pixels
        assert pixels.peak == 65535
        assert np.array_equal(pixels.values[0, 0].numpy(), deep)


def test_an_animation_gives_its_first_frame_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("P", (4, 3), color) for color in (1, 2, 3)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    frames[0].save(tmp_path / "move.gif", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.WARNING, "fastgan"):
        found = array(image_files.read(tmp_path / "move.gif"))
    assert (found == [255, 0, 0]).all()
    assert "first of 3 frames" in caplog.text


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ArgumentError, match="floating-point"):
        image_files.decode(Image.new("F", (3, 3)))


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(random(64, 64, 3)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("truncated.jpg", jpeg()[:900]),
        ("text.png", b"this is no picture\n"),
        ("empty.png", b""),
        ("header.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40),
        ("page.gif", b"GIF89a\xff\xff\xff\xff" + b"\xff" * 20),
        ("script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ],
)
def test_broken_files_are_one_error_that_names_them(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArgumentError, match=name):
        image_files.read(tmp_path / name)


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    draw = drawing.new_numpy()
    sources = []
    for suffix in ("png", "jpg", "webp", "bmp", "tif", "gif", "ppm"):
        Image.fromarray(random(12, 12, 3)).save(tmp_path / f"good.{suffix}")
        sources.append((suffix, (tmp_path / f"good.{suffix}").read_bytes()))
    for _ in range(60):
        for suffix, content in sources:
            damaged = bytearray(content)
            for place in draw.integers(0, len(damaged), 4):
                damaged[place] = draw.integers(0, 256)
            (tmp_path / f"bad.{suffix}").write_bytes(bytes(damaged[: draw.integers(1, 999)]))
            try:
                image_files.read(tmp_path / f"bad.{suffix}")
            except ArgumentError as error:
                assert f"bad.{suffix}" in str(error)  # noqa: PT017


def test_missing_folders_and_locked_files(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="No such file"):
        image_files.read(tmp_path / "nothing.png")
    with pytest.raises(ArgumentError, match="directory"):
        image_files.read(tmp_path)
    locked = tmp_path / "locked.png"
    Image.fromarray(random(3, 3)).save(locked)
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(ArgumentError, match="Permission denied"):
        image_files.read(locked)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(random(30, 30)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ArgumentError, match="MAX_IMAGE_PIXELS"):
        image_files.read(tmp_path / "bomb.png")


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(random(6, 7, 3))
    for suffix in ("png", "jpg", "webp"):
        path = tmp_path / f"image.{suffix}"
        path.write_bytes(b"before")
        image_files.write(path, picture, icc_profile=b"profile")
        with Image.open(path) as found:
            assert found.size == (7, 6)
            assert found.info["icc_profile"] == b"profile"
    assert image_files.read(tmp_path / "image.png").icc_profile == b"profile"
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        image_files.write(tmp_path / "image.png", picture)
    with Image.open(tmp_path / "image.png") as found:
        assert found.size == (7, 6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.jpg", "image.png", "image.webp"]


def test_a_side_too_long_for_a_format(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="16383"):
        image_files.write(tmp_path / "long.webp", Image.new("L", (16384, 1)))
    assert not list(tmp_path.iterdir())
