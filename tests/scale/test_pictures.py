"""Results of `scale apply` and their checksums, made without Ray by what its actors call."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastgan.errors import ModelFileError
from fastgan.scale import manifest as manifests
from fastgan.scale.pictures import SUMS, Folders, Improver, sums
from fastgan.scale.report import Report
from fastgan.scale.sinks import read_sums, sum_line
from fastgan.scale.store import open_store
from fastgan.scale.verify import verify
from tests.drawing import new_random

NAMES = ("a.png", "deep/b c.png", "deep/back\\slash\nline.png")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three pictures, twice as large: the folder that they are in."""
    random = np.random.default_rng(new_random().randrange(2**32))
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(random.integers(0, 255, (9, 8, 3), np.uint8)).save(tmp_path / "in" / name)
    folders = Folders("superres-x2", str(tmp_path / "in"), str(tmp_path / "out"))
    improver = Improver(folders)
    manifests.claim(open_store(folders.out), improver.manifest)
    group = [(index, *pair) for index, pair in enumerate(folders.jobs())]
    assert improver.run(group[:1])[0] == 1
    done, size, failures = improver.run(group[1:])
    assert (done, failures) == (2, [])
    assert size == sum((tmp_path / "out" / name).stat().st_size for name in NAMES[1:])
    return tmp_path / "out"


def test_every_result_has_a_checksum_that_others_check(run: Path, fastgan) -> None:
    assert set(sums(open_store(run))) == set(NAMES)
    files = sorted(str(path.relative_to(run)) for path in (run / SUMS).iterdir())
    assert len(files) == 2
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", *files], cwd=run, capture_output=True, timeout=60
    )
    assert (checked.returncode, checked.stdout.count(b": OK")) == (0, 3), checked
    assert verify(str(run)) == ([], 0, 3)
    said = fastgan("scale", "verify", run)
    assert (said.code, "3 pictures: each is there once, and whole" in said.out) == (0, True)


def test_what_is_wrong_is_found(run: Path, tmp_path: Path, fastgan) -> None:
    (run / NAMES[0]).write_bytes(b"other")
    (run / NAMES[1]).unlink()
    (run / "more.png").write_bytes(b"mine")
    wrong = dict(verify(str(run)).wrong)
    assert set(wrong) == {NAMES[0], NAMES[1], "more.png"}
    assert "checksum" in wrong[NAMES[0]]
    assert (wrong[NAMES[1]], wrong["more.png"]) == ("is missing", "has no checksum")
    assert fastgan("scale", "verify", run).code == 1
    # Without what they were made of it goes by the checksums.
    (tmp_path / "in").rename(tmp_path / "gone")
    assert set(dict(verify(str(run)).wrong)) == set(wrong)
    next((run / SUMS).iterdir()).write_text("nonsense")
    damaged = fastgan("scale", "verify", run)
    assert (damaged.code, damaged.err.count("\n")) == (2, 1)


def test_a_picture_that_was_never_made_is_missing(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "in" / "new.jpg")
    assert verify(str(run)).wrong == [("new.png", "is missing")]


def test_lines_of_checksums() -> None:
    names = [*NAMES, "a\u2028b.png", "a\rb.png", "\udcff.png"]
    lines = b"".join(sum_line(b"", name) for name in names)
    assert [name for name, _ in read_sums(lines)] == names
    for wrong in (b"x", b"0" * 64 + b" a", b"g" * 64 + b"  a", b"0" * 64 + b"  "):
        with pytest.raises(ValueError, match="the line"):
            list(read_sums(wrong))


def test_a_store_without_checksums(tmp_path: Path) -> None:
    assert sums(open_store(tmp_path / "none")) == {}
    store = open_store(tmp_path)
    store.write(f"{SUMS}/x.sha256", b"\xff")
    with pytest.raises(ModelFileError, match="sha256sum"):
        sums(store)


def test_a_run_says_how_many_pictures_it_made() -> None:
    said = Report(images=6, kept=2, bytes=900, seconds=2.0).lines(things="pictures")
    assert said[:2] == [
        "6 pictures made, 2 there already: 900 bytes",
        "3 images/s, 0 core-seconds per thousand",
    ]


def test_who_ends_a_check_is_not_told_to_resume_it(run: Path, monkeypatch, fastgan) -> None:
    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastgan.scale.verify.verify", ended)
    assert fastgan("scale", "verify", run).err == "fastgan: interrupted\n"
