"""Super-resolution: data by image, a score that falls, exact resume, the file is the module."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import fastgan
from fastgan.cli import app
from fastgan.errors import ArgumentError
from fastgan.recipes import photographs, superres, trainer
from fastgan.recipes.system import fixed

pytest.importorskip("skimage", reason="the photographs come with scikit-image")
QUICK = superres.SETTINGS["quick"]


@pytest.fixture(scope="module")
def found():
    return superres.data(QUICK, None)


def test_no_held_out_photograph_is_trained_on(tmp_path, found):
    train, test = found
    whole = {tuple(p.shape): p for p in test.pictures}
    assert all(
        not torch.equal(p, whole[tuple(p.shape)]) for p in train.pictures if tuple(p.shape) in whole
    )
    for index in range(6):
        Image.new("RGB", (80, 40), (40 * index, 0, 0)).save(tmp_path / f"{index}.png")
    reds = [
        {int(p[0, 0, 0]) for p in photographs.photographs(split, tmp_path).pictures}
        for split in ("train", "test")
    ]
    assert reds == [{40, 80, 120, 160}, {0, 200}]
    assert all(min(p.shape[1:]) >= 64 for p in photographs.photographs("test", tmp_path).pictures)


@pytest.mark.parametrize("adversarial", [0.0, 0.01], ids=["distance alone", "adversarial"])
def test_resume_is_exact_and_the_file_is_the_module(tmp_path, found, adversarial):
    settings = replace(QUICK, adversarial=adversarial, spectral_norm=True)
    whole, first, second = (superres.build(settings, found) for _ in range(3))
    before = whole.score()
    trainer.train(whole, tmp_path / "whole", steps=30, seed=1)
    trainer.train(first, tmp_path / "parts", steps=10, seed=1)
    trainer.train(second, tmp_path / "parts", steps=30, seed=1, resume=True)
    for name, weight in whole.generator.state_dict().items():
        assert torch.equal(weight, second.generator.state_dict()[name]), name
    assert whole.score() < before  # it starts as bicubic interpolation

    whole.export(tmp_path / "x2.onnx")
    image = torch.rand(2, 3, 20, 28, generator=fixed(4)) * 2 - 1
    with torch.no_grad():
        expected = whole.finished()(image)
    for backend in ("torch", "ort"):
        made = fastgan.load(tmp_path / "x2.onnx", backend=backend)(image)
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


def test_early_stop_and_tensorboard(tmp_path, found):
    pytest.importorskip("tensorboard", reason="TensorBoard is optional")
    recipe = superres.build(replace(QUICK, lr=0.0), found)  # it never gets better
    outcome = trainer.train(
        recipe, tmp_path, steps=20, seed=0, samples_every=2, patience=2, tensorboard=True
    )
    assert (outcome.step, outcome.interrupted) == (6, False)
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("changes", "message"), [({"scale": 3}, "2 or 4"), ({"device": "abacus"}, "auto")]
)
def test_settings_that_do_not_fit(found, changes, message):
    with pytest.raises(ArgumentError, match=message):
        superres.build(replace(QUICK, **changes), found)


@pytest.mark.parametrize("pair", ["nope=1", "loss=nonsense", "scale=many", "scale"])
def test_a_setting_that_is_none_is_one_clear_line(tmp_path, pair):
    words = ["train", "superres", "--preset", "quick", "--set", pair, "--out", str(tmp_path)]
    result = CliRunner().invoke(app(), words)
    assert result.exit_code == 2
    assert "--set" in result.output
    assert not list(tmp_path.iterdir())


def test_every_picture_of_packages_is_in_the_notices():
    """With its licence: what states none is in no training without being asked for."""
    notice = (Path(__file__).parents[3] / "NOTICE").read_text()
    names = {name for split in photographs._PHOTOGRAPHS.values() for name in split}
    for name in (*names, *photographs.TEXTURES, "ihc"):
        assert re.search(rf"^  {name} +\S", notice, re.MULTILINE), name
