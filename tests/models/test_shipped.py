"""The shipped models are what their cards say, measured again from the files."""

import re

import onnx
import onnx_ir as ir
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import fastgan
from fastgan import models
from fastgan.cli import app
from fastgan.errors import ArgumentError
from fastgan.loading import open_model
from fastgan.measure import parity
from fastgan.measure.subject import example_inputs
from fastgan.model.described import of as described_by
from fastgan.model.signature import Input, Output
from fastgan.recipes import images
from fastgan.recipes.evaluation import digits, table


def test_names_and_paths():
    assert "dcgan-digits" in models.names()
    for name in models.names():
        file = models.path(name)
        assert file.stat().st_size <= 2 * 2**20
        onnx.checker.check_model(file, full_check=True)
        card = file.with_suffix(".md").read_text()
        assert card.startswith(f"# {name}\n")
        with Image.open(file.with_suffix(".png")) as sheet:
            assert min(sheet.size) >= 256


@pytest.mark.parametrize("name", ["dcgan", "../models/dcgan-digits", "dcgan-digits.onnx", ""])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ArgumentError, match=r"one of .*dcgan-digits, "):
        models.path(name)


def test_what_the_digits_file_says_of_itself():
    found = described_by(ir.load(models.path("dcgan-digits")))
    assert found.inputs == (Input("latent", "latent", ("batch", 100), distribution="normal"),)
    assert found.outputs == (Output("output", "image", ("batch", 1, 32, 32)),)


def test_a_digit_is_a_class_by_name():
    digits = fastgan.load("cgan-digits", device="cpu")
    assert digits.signature.class_names == tuple("0123456789")
    assert torch.equal(digits.generate(2, labels="7"), digits.generate(2, labels=7))
    with pytest.raises(ArgumentError, match=r"eleven.*0, 1, 2"):
        digits.generate(1, labels="eleven")


#: An encoder is judged with its decoder.
JUDGED = [n for n in models.names() if n in table.FIGURES and not n.endswith("-encoder")]


@pytest.mark.parametrize("name", JUDGED)
def test_the_card_keeps_its_promise(name):
    """What a card promises is what the file does; a figure of the card is that of the file."""
    found = table.FIGURES[name](fastgan.load(name, precision="fp32"))
    missed = {key: figure for key, figure in found.items() if figure.reached is False}
    assert not missed
    card = models.path(name).with_suffix(".md").read_text()
    for key, figure in found.items():
        if figure.reached is not None:
            stated = re.search(rf"^\s*{re.escape(key)} +(-?[\d.]+)", card, re.MULTILINE)
            assert stated is not None, f"the card does not state {key!r}"
            assert float(stated[1]) == pytest.approx(figure.value, rel=0.02, abs=0.02), key


def test_the_judge_tells_digits_from_what_is_none():
    real, _ = images.digits("test")
    train, _ = images.digits("train")
    noise = torch.randn(200, 1, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    blends = (real[:180] + real[180:]) / 2
    on_real, on_noise, on_blends = (digits.judge(x) for x in (real, noise, blends))
    assert on_real["confidence"].value > 0.95
    assert on_real["novelty"].value == pytest.approx(1)
    assert on_blends["confidence"].reached is False
    assert on_noise["rarest digit"].reached is on_noise["commonest digit"].reached is False
    copies = digits.judge(train[:200])["novelty"]
    assert (copies.value, copies.reached) == (0, False)


def small(model, inputs, side=32):
    """The inputs cut where the model leaves height and width open: kernels are interpreted here."""
    cut = {}
    for port in model.signature.inputs:
        tensor = inputs[port.name]
        for axis in (2, 3):
            if tensor.dim() == 4 and isinstance(port.shape[axis], str):
                tensor = tensor.narrow(axis, 0, min(side, tensor.shape[axis]))
        cut[port.name] = tensor.contiguous()
    return cut


@pytest.mark.parametrize("name", models.names())
def test_every_backend_agrees_on_every_shipped_model(name, monkeypatch):
    monkeypatch.setattr(parity, "_seconds", lambda run: 0.0)
    model = open_model(name)
    inputs = small(model, example_inputs(model, 2, seed=7))
    _, expected = parity.reference_of(model, inputs)
    ran = [row for row in parity.rows(model, inputs, expected) if row.difference is not None]
    assert {row.backend for row in ran} >= {"torch", "ort"}
    assert all(row.within for row in ran), ran


def test_every_shipped_model_is_listed():
    result = CliRunner().invoke(app(), ["models"])
    assert result.exit_code == 0, result.output
    for name in models.names():
        assert name in result.output
        assert 10 < len(models.summary(name)) < 100
