"""The examples show the generator's frames: off the screen, pixel by pixel.

With FASTGAN_PICTURES=docs/pictures in the environment their screenshots are kept there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

import fastgan
from fastgan.realtime import RingReader
from tests.ring.conftest import INCLUDE, ROOT, Compile

EXAMPLES = ROOT / "examples"
SEED = 20
GRAVEL, DIGITS = ("texture-gravel", (64, 64)), ("dcgan-digits", None)


@pytest.fixture
def producer(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a ring that `fastgan stream` writes."""
    model, size = request.param
    name = f"/fastgan-test-{uuid4().hex[:12]}"
    command = [sys.executable, "-c", "from fastgan.cli import main; main()", "stream", model]
    command += ["--shm", name, "--seed", str(SEED)]
    if size is not None:
        command += ["--size", f"{size[1]}x{size[0]}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    RingReader(name, timeout=300).close()  # it is there, and hears SIGTERM
    yield name
    process.terminate()
    assert process.wait(300) == 0
    assert not Path("/dev/shm", name[1:]).exists(), "it left something behind"


def made(model: str, size: tuple[int, int] | None, index: int) -> np.ndarray:
    """The generator's own frame: uint8 [H, W, C]."""
    with fastgan.load(model).stream(seed=SEED, start=index, frames=1, size=size) as stream:
        return next(stream).images[0].clone().numpy()


def keep(picture: Path, name: str) -> None:
    folder = os.environ.get("FASTGAN_PICTURES")
    if folder:
        Image.open(picture).save(Path(folder) / name)


def texels(screen: np.ndarray, box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """What the screen shows in the middle of each texel of a picture: [H, W, C]."""
    left, top, right, bottom = box
    y = top + (np.arange(size[0]) + 0.5) * (bottom - top) / size[0]
    x = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1]
    return screen[y.astype(int)[:, None], x.astype(int)[None]]


@pytest.mark.parametrize("producer", [GRAVEL], indirect=True, ids=["gravel"])
def test_panda3d_scene(producer: str, tmp_path: Path) -> None:
    pytest.importorskip("panda3d", reason="panda3d is not installed: pip install panda3d")
    picture = tmp_path / "scene.png"
    command = [sys.executable, str(EXAMPLES / "panda3d_scene.py"), "--shm", producer]
    command += ["--offscreen", "--seconds", "1", "--screenshot", str(picture)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    rates = re.search(r"scene ([\d.]+) fps, generator ([\d.]+) fps", result.stdout)
    assert rates is not None
    assert float(rates[1]) > 0
    assert float(rates[2]) > 0
    index = int(re.search(r"frame (\d+)", result.stdout)[1])
    box = tuple(map(float, re.search(r"picture (.*)", result.stdout)[1].split()))
    screen = np.asarray(Image.open(picture).convert("RGB"))
    wanted = made(*GRAVEL, index)
    shown = texels(screen, box, wanted.shape[:2])
    np.testing.assert_array_equal(shown, np.broadcast_to(wanted, shown.shape))
    floor = screen[int(0.85 * screen.shape[0]) :]
    assert floor.std() > 20, "nothing is painted on the floor"
    keep(picture, "panda3d-scene.png")


@pytest.mark.parametrize("producer", [DIGITS], indirect=True, ids=["digits"])
def test_sdl2_viewer(producer: str, tmp_path: Path, compile_c: Compile) -> None:
    config = shutil.which("sdl2-config")
    if config is None:
        pytest.skip("SDL2's headers are not installed: apt install libsdl2-dev")
    flags = subprocess.check_output([config, "--cflags", "--libs"], text=True).split()
    program = compile_c(EXAMPLES / "sdl2_viewer.c", *flags, include=INCLUDE, standard="gnu11")
    picture = tmp_path / "window.bmp"
    result = subprocess.run(
        [str(program), producer, str(picture), "0.5"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "SDL_VIDEODRIVER": "dummy"},
    )
    assert result.returncode == 0, result.stderr
    index = int(re.search(r"frame (\d+)", result.stdout)[1])
    screen = np.asarray(Image.open(picture).convert("RGB"))
    wanted = made(*DIGITS, index)
    scale = screen.shape[0] // wanted.shape[0]
    assert scale == 16
    shown = wanted.repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(screen, np.broadcast_to(shown, screen.shape))
    keep(picture, "sdl2-viewer.png")


def test_the_c_example_stays_short() -> None:
    assert len((EXAMPLES / "sdl2_viewer.c").read_text().splitlines()) < 100
