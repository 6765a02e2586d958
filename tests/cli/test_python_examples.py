"""The examples in Python run as their first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.ring.conftest import ROOT

EXAMPLES = ROOT / "examples"
SHORT = ("generate.py", "restore.py", "stream.py")


def run(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", SHORT)
def test_is_read_at_a_glance(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 30


def test_generate(tmp_path: Path) -> None:
    picture = tmp_path / "digits.png"
    assert "1024 images" in run("generate.py", "dcgan-digits", picture)
    with Image.open(picture) as sheet:
        assert sheet.size == (32 * 32, 32 * 32)
        assert sheet.convert("L").getextrema() == (0, 255)


def test_restore(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.linear_gradient("L").resize((20, 12)).convert("RGB").save(tmp_path / "in" / "a.png")
    assert "a.png: 80 x 48" in run("restore.py", tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.png") as result:
        assert result.size == (80, 48)


def test_stream() -> None:
    assert "delivered=" in run("stream.py", "dcgan-digits", "0.5")
