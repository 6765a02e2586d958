"""Picture formats have one table: every reader and writer takes what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from fastgan.cli import saving
from fastgan.images import files
from fastgan.images.formats import NAMED, SUFFIXES, WRITTEN
from fastgan.realtime.live.page import FORMATS
from fastgan.recipes import images

RED = Image.new("RGB", (8, 6), (255, 0, 0))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_training_reads_what_apply_reads(suffix: str, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    path = tmp_path / f"red{suffix}"
    RED.convert({".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")).save(path)
    (file,) = images.files(tmp_path)
    pixels = np.asarray(images.read(file)).astype(int)
    values = files.read(path).pixels.values[0].permute(1, 2, 0).numpy()
    assert (pixels == values).all()


def test_training_reads_pictures_upright_and_in_16_bits(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    RED.save(tmp_path / "turned.jpg", exif=turned)
    assert images.read(tmp_path / "turned.jpg").size == (6, 8)
    Image.fromarray(np.full((4, 4), 0x8080, np.uint16)).save(tmp_path / "deep.png")
    assert images.read(tmp_path / "deep.png").getpixel((0, 0)) == (128,) * 3


@pytest.mark.parametrize("suffix", NAMED)
def test_there_is_one_writer(suffix: str, tmp_path: Path) -> None:
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    saving.write(one, picture)
    files.write(other, Image.fromarray(picture))
    assert one.read_bytes() == other.read_bytes()


def test_a_page_sends_what_is_written() -> None:
    assert list(FORMATS) == ["jpeg", "png", "webp"]
    assert FORMATS["png"].how(90, quick=True) == {"compress_level": 1}
    assert FORMATS["jpeg"].how(90, quick=True) == {"quality": 90}
    assert {id(written) for written in FORMATS.values()} == set(map(id, WRITTEN.values()))
