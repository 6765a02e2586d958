"""Models with uint8 results, and with inputs beside the latent or the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastgan as library
from tests.unit.test_pixel_outputs import pixels


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_pixels_of_a_generator(fastgan, tmp_path, backend) -> None:
    (tmp_path / "g.onnx").write_bytes(pixels(last=False))
    arguments = ("--n", 2, "--backend", backend, "--outdir", tmp_path)
    result = fastgan("generate", tmp_path / "g.onnx", *arguments)
    assert (result.code, result.err) == (0, "")
    made = library.load(tmp_path / "g.onnx", backend=backend).generate(2, format="uint8")
    for i in range(2):
        assert np.array_equal(read(tmp_path / f"sample{i:06d}.png"), made[i].numpy())


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_pixels_of_a_picture(fastgan, tmp_path, backend) -> None:
    (tmp_path / "g.onnx").write_bytes(pixels(last=True, image=True))
    given = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(given).save(tmp_path / "in.png")
    arguments = ("-i", tmp_path / "in.png", "--backend", backend, "-o", tmp_path / "o")
    result = fastgan("apply", tmp_path / "g.onnx", *arguments)
    assert (result.code, result.err) == (0, "")
    expected = np.minimum(given.astype(int) + 9, 255)
    assert np.array_equal(read(tmp_path / "o" / "in_out.png"), expected)
