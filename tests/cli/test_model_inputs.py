"""Models with uint8 results, and with inputs beside the latent or the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastgan as library
from tests.unit.inputs.test_named_inputs import psi_model, scaled
from tests.unit.inputs.test_pixel_outputs import pixels


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


@pytest.fixture
def picture(tmp_path, monkeypatch) -> np.ndarray:
    """A picture in.png, in the working folder, and two models."""
    monkeypatch.chdir(tmp_path)
    given = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(given).save("in.png")
    (tmp_path / "scaled.onnx").write_bytes(scaled(("n",)))
    (tmp_path / "strength.onnx").write_bytes(psi_model(name="strength"))
    np.save("w.npy", np.float32(0.5))
    return given


@pytest.mark.parametrize("text", ["w=0.5", "w=[0.5]", "w=w.npy"])
def test_apply_takes_a_further_input(fastgan, picture, text) -> None:
    model = library.load("scaled.onnx")
    for arguments in (("-i", "in.png", "--input", text), ("--input", text, "-i", "in.png")):
        assert fastgan("apply", "scaled.onnx", *arguments).code == 0
        expected = model(picture, w=0.5, format="uint8")[0].numpy()
        assert np.array_equal(read(Path("out/in_out.png")), expected)
        Path("out/in_out.png").unlink()


def test_a_picture_may_be_called_like_an_input(fastgan, picture) -> None:
    Path("in.png").rename("w=0.5")
    outcome = fastgan("apply", "scaled.onnx", "-i", "w=0.5", "-i", "w=1", "-o", "a.png")
    assert outcome.code == 0, outcome.err
    assert Path("a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--input", "w=0.5"), "no picture"),
        (("-i", "in.png"), "--input w="),
        (("-i", "in.png", "-i", "in.png", "--input", "w=1"), "2 pictures"),
        (("-i", "in.png", "--input", "v=1"), "no such input"),
        (("-i", "in.png", "--input", "w=half"), "a number, a list"),
        (("-i", "in.png", "--input", "w=none.npy"), "no file none.npy"),
        (("-i", "in.png", "--input", "w=[1,2]"), "one number"),
        (("-i", "in.png", "--input", "w=NaN"), "finite"),
        (("-i", "in.png", "--input", "w=true"), "finite number"),
        (("-i", "in.png", "--input", "w=1", "--input", "w=2"), "twice"),
        (("-i", "in.png", "--input", "seed=2"), "own name"),
    ],
)
def test_inputs_that_make_no_sense(fastgan, picture, arguments, words) -> None:
    outcome = fastgan("apply", "scaled.onnx", *arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert words in outcome.err
    assert not list(Path("out").glob("*"))


def test_generate_takes_a_further_input(fastgan, picture) -> None:
    outcome = fastgan("generate", "strength.onnx", "--n", 2)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "--input strength=" in outcome.err
    assert not Path("out").exists()
    assert fastgan("generate", "strength.onnx", "--n", 2, "--input", "strength=0.3").code == 0
    made = library.load("strength.onnx").generate(2, strength=0.3, format="uint8").numpy()
    for i in range(2):
        assert np.array_equal(read(Path(f"out/sample{i:06d}.png")), made[i])


def test_trunc_is_the_models_own(fastgan, tmp_path) -> None:
    (tmp_path / "psi.onnx").write_bytes(psi_model())
    assert (
        fastgan("generate", tmp_path / "psi.onnx", "--trunc", 0.3, "--outdir", tmp_path).code == 0
    )
    made = library.load(tmp_path / "psi.onnx").generate(1, psi=0.3, format="uint8").numpy()
    assert np.array_equal(read(tmp_path / "sample000000.png"), made[0])


def test_stream_takes_a_further_input(fastgan, picture) -> None:
    name = f"/fastgan-inputs-{Path.cwd().name}"
    arguments = ("--shm", name, "--frames", 2, "--fps", 0)
    outcome = fastgan("stream", "strength.onnx", *arguments)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    outcome = fastgan("stream", "strength.onnx", *arguments, "--input", "strength=0.3")
    assert (outcome.code, outcome.err) == (0, "")
