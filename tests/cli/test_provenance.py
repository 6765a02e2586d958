"""A picture says how it was made, and that makes it again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastgan as library
from fastgan import models
from fastgan.errors import ArgumentError
from fastgan.images import files, made
from fastgan.model.origin import digest


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("--n", 3, "--seed", 7, "--start", 40, "--trunc", 0.5, "--class", 3), "sample000042.png"),
        (("--seeds", "5,9-10", "--start", 2, "--rng", "numpy"), "seed0009.png"),
        (("--grid", "3x2", "--seed", 8), "grid.png"),
        (("--grid", "2x2", "--seeds", "3-6", "--class", 1), "grid.png"),
    ],
)
def test_like_a_picture_is_that_picture(fastgan, tmp_path, words, name) -> None:
    done = fastgan("generate", "cgan-digits", *words, "--outdir", tmp_path)
    assert done.code == 0, done.err
    facts = made.read(tmp_path / name)
    assert facts["fastgan"] == library.__version__
    assert facts["sha256"] == digest(str(models.path("cgan-digits")))
    done = fastgan("generate", "--like", tmp_path / name, "--outdir", tmp_path / "again")
    assert done.code == 0, done.err
    (again,) = (tmp_path / "again").iterdir()
    # Made alone and in a batch: within the tolerance of one value in 255.
    difference = pixels(again).astype(int) - pixels(tmp_path / name)
    assert np.abs(difference).max() <= 1
    assert pixels(again).std() > 10
    assert made.read(again)["seed"] == facts["seed"]


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_other_formats_say_it_too(fastgan, tmp_path, format) -> None:
    words = ("generate", "dcgan-digits", "--n", 2, "--format", format, "--outdir", tmp_path)
    assert fastgan(*words).code == 0
    picture = tmp_path / f"sample000001.{format}"
    assert made.read(picture)["start"] == 1
    again = tmp_path / "again"
    assert fastgan("generate", "--like", picture, "--outdir", again).code == 0
    assert [path.name for path in again.iterdir()] == [picture.name]
    assert np.abs(pixels(again / picture.name).astype(int) - pixels(picture)).max() <= 1
    asked = ("--format", "png", "--outdir", tmp_path / "asked")
    assert fastgan("generate", "--like", picture, *asked).code == 0
    assert [path.name for path in (tmp_path / "asked").iterdir()] == ["sample000001.png"]
    done = fastgan(*words, "--resume", "--seed", 3)
    assert (done.code, "a picture of seed 0" in done.err) == (2, True)


def test_what_does_not_fit_is_left_out(tmp_path) -> None:
    for format in ("png", "jpg", "webp"):
        files.write(tmp_path / f"a.{format}", Image.new("RGB", (4, 4)), facts={"x": "y" * 99_999})
    assert len(made.read(tmp_path / "a.png")["x"]) == 99_999
    for format in ("jpg", "webp"):
        with pytest.raises(ArgumentError, match="does not say"):
            made.read(tmp_path / f"a.{format}")


def test_a_manifest_says_the_same_as_the_pictures(fastgan, tmp_path) -> None:
    words = ("generate", "dcgan-digits", "--n", 3, "--seed", 4, "--manifest", "--outdir", tmp_path)
    assert fastgan(*words).code == 0
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"sample{i:06d}.png" for i in range(3)]
    for line in lines:
        assert made.read(tmp_path / line.pop("file")) == line
    (tmp_path / "sample000001.png").unlink()
    assert fastgan(*words, "--resume").code == 0
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["start"] for line in lines] == [0, 1, 2, 1]


def test_a_picture_may_say_nothing(fastgan, tmp_path) -> None:
    fastgan("generate", "dcgan-digits", "--no-metadata", "--outdir", tmp_path)
    picture = tmp_path / "sample000000.png"
    with Image.open(picture) as image:
        assert not image.info
    done = fastgan("generate", "--like", picture)
    assert (done.code, "does not say how it was made" in done.err) == (2, True)


def test_another_model_is_not_taken_for_the_one(fastgan, tmp_path) -> None:
    fastgan("generate", "dcgan-digits", "--outdir", tmp_path)
    picture = tmp_path / "sample000000.png"
    done = fastgan("generate", "vae-digits", "--like", picture, "--outdir", tmp_path / "b")
    assert (done.code, "another file" in done.err) == (2, True)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("format", ["png", "jpg"])
@pytest.mark.parametrize("facts", [{}, {"fastgan": "9", "seed": 1}, [1], "text"])
def test_what_others_wrote_into_a_picture_is_refused(fastgan, tmp_path, facts, format) -> None:
    picture = tmp_path / f"other.{format}"
    files.write(picture, Image.new("L", (4, 4)), facts=facts)
    done = fastgan("generate", "dcgan-digits", "--like", picture, "--outdir", tmp_path / "b")
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("comment", [b"", b"UNICODE\0{", b"ASCII\0\0\0[1]", 7, "text"])
def test_comments_of_others_are_passed_over(tmp_path, comment) -> None:
    exif = Image.Exif()
    exif[0x8769] = {0x9286: comment}
    Image.new("L", (4, 4)).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(ArgumentError, match="does not say"):
        made.read(tmp_path / "a.jpg")


def test_like_needs_a_picture_and_no_other_choice(fastgan, tmp_path) -> None:
    (tmp_path / "text.png").write_text("text")
    assert "no picture" in fastgan("generate", "--like", tmp_path / "text.png").err
    assert fastgan("generate", "--like", tmp_path / "none.png").code == 2
    done = fastgan("generate", "--like", tmp_path / "text.png", "--n", 3)
    assert "--like" in done.err
    assert "MODEL" in fastgan("generate").err
