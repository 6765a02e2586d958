"""The examples that have the generator in process: what they show is what the package makes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan
from tests.bundle.conftest import ROOT, Build, Bundled

EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.cpu


def slerp(a: np.ndarray, b: np.ndarray, part: float) -> np.ndarray:
    """Directions by the exponential map, lengths in proportion: not by the sines that we use."""
    long_a, long_b = np.linalg.norm(a), np.linalg.norm(b)
    x, y = a / long_a, b / long_b
    across = y - (x @ y) * x
    turned = np.arccos(x @ y) * part
    direction = np.cos(turned) * x + np.sin(turned) * across / np.linalg.norm(across)
    return direction * ((1 - part) * long_a + part * long_b)


@pytest.mark.parametrize(
    ("name", "frame"), [("dcgan-digits", 60), ("dcgan-digits", 95), ("vae-digits", 20)], ids=str
)
def test_the_sdl2_walk(
    name: str, frame: int, compile_with: Build, bundled: Bundled, tmp_path: Path
) -> None:
    source = EXAMPLES / "sdl2_generator.c"
    assert len(source.read_text().splitlines()) < 150
    config = shutil.which("sdl2-config")
    if config is None:
        pytest.skip("SDL2's headers are not installed: apt install libsdl2-dev")
    flags = subprocess.check_output([config, "--cflags", "--libs"], text=True).split()
    program, picture = compile_with(source, *flags, "-lm"), tmp_path / "window.bmp"
    command = [program, bundled(name), picture, str(frame + 1)]
    made = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SDL_VIDEODRIVER": "dummy"},
    )
    assert made.returncode == 0, made.stderr
    screen = np.asarray(Image.open(picture).convert("RGB"))
    file = fastgan.load(name, device="cpu")
    seeds, part = 7 + frame // 60, frame % 60 / 60
    ends = [file.latents(1, seed=seed).double().flatten().numpy() for seed in (seeds, seeds + 1)]
    given = torch.from_numpy(slerp(*ends, part)).float()
    wanted = file.generate(1, latents=given.reshape(file.latents(1, seed=0).shape), format="uint8")[
        0
    ].numpy()
    scale = screen.shape[0] // wanted.shape[0]
    shown = wanted.repeat(scale, 0).repeat(scale, 1)
    assert scale == 16
    assert np.abs(screen.astype(int) - shown).max() <= (1 if part else 0)


def test_the_binding_for_unity(library_path: Path, bundled: Bundled, tmp_path: Path) -> None:
    compiler, mono = shutil.which("mcs"), shutil.which("mono")
    if compiler is None or mono is None:
        pytest.skip(
            "Mono is not installed, the C# was not tried: apt install mono-mcs mono-runtime"
        )
    program = tmp_path / "caller.exe"
    sources = [EXAMPLES / "unity" / "Fastgan.cs", ROOT / "tests" / "bundle" / "Caller.cs"]
    subprocess.run([compiler, "-warnaserror", f"-out:{program}", *sources], check=True, timeout=120)
    (tmp_path / "libfastgan.so").symlink_to(library_path)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    for name, labels in (("dcgan-digits", None), ("cgan-digits", [4])):
        command = [mono, program, bundled(name), *map(str, labels or ())]
        made = subprocess.run(command, capture_output=True, timeout=60, env=environment)
        assert made.returncode == 0, made.stderr
        file = fastgan.load(name, device="cpu")
        own = file.latents(1, seed=11, start=5)
        wanted = [file.generate(2, seed=11, format="uint8")]
        wanted += [file.generate(1, latents=own, format="uint8")]
        if labels is not None:
            wanted += [file.generate(1, seed=11, labels=labels, format="uint8")]
        assert made.stdout == b"".join(images.numpy().tobytes() for images in wanted)
