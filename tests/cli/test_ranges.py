"""What a model takes and makes: shown, guessed, and stated by options or a file beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import fastgan as engine
from tests.cli.apply.test_apply import files, picture, pixels
from tests.cli.conftest import Outcome

Fastgan = Callable[..., Outcome]
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes its out/ into the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """silent.onnx: twice the picture, whose file states nothing, nor do its layers tell much."""
    lines = """<ir_version: 9, opset_import: ["" : 18]>
    twice (float[n, 3, h, w] x) => (float[n, 3, h, w] y)
    <float[3, 3, 1, 1] weight = {2, 0, 0, 0, 2, 0, 0, 0, 2}> { y = Conv(x, weight) }"""
    lines = lines.replace("0, 0, 0", "0.0001, 0, 0")  # or it were arithmetic for each channel
    path = tmp_path / "silent.onnx"
    onnx.save(onnx.parser.parse_model(lines), path)
    return path


def levels(array: Array, low: float, high: float, lowest: float, highest: float) -> Array:
    """What doubles a value makes of a picture, by hand."""
    values = 2 * (array / 255 * (high - low) + low)
    return np.clip(np.round((values - lowest) / (highest - lowest) * 255), 0, 255)


@pytest.mark.parametrize(
    ("options", "spans"),
    [
        ((), (0, 1, 0, 1)),
        (("--range", "0:255"), (0, 255, 0, 255)),  # what is not stated follows
        (("--range", "-1:1", "--out-range", "-2:2"), (-1, 1, -2, 2)),
        (("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"), (-2, 2, 0, 1)),
        (("--mean", "0.5,0.5,0.5", "--out-range", "-1:1"), (-0.5, 0.5, -1, 1)),
    ],
)
def test_ranges_by_options(fastgan: Fastgan, tmp_path: Path, silent, options, spans) -> None:
    array = picture(tmp_path / "a.png", 8, 9, 3)
    assert fastgan("apply", silent, "-i", "a.png", *options).code == 0
    got, wanted = pixels(Path("out/a_out.png")), levels(array, *spans)
    assert np.abs(got - wanted).max() <= 1  # of the tenth of a thousandth beside the diagonal


def test_a_thin_guess_is_warned_of_once(fastgan: Fastgan, tmp_path: Path, silent) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name, 8, 9, 3)
    told = fastgan("apply", silent, "-i", "in").err
    assert told.count("--range") == 1
    assert "[0, 1]" in told
    assert "thin" in told
    stated = fastgan("apply", silent, "-i", "in", "--range", "0:1", "--out-range", "0:1")
    assert "--range" not in stated.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--range", "1:0"), "--range"),
        (("--range", "0,1"), "--range"),
        (("--range", "nan:1"), "--range"),
        (("--out-range", "0"), "--out-range"),
        (("--mean", "a,b,c"), "--mean"),
        (("--std", "0,1,1"), "--std"),
        (("--mean", "0,0,0", "--std", "1,1"), "--std"),
        (("--mean", "0,0,0", "--range", "0:1"), "--range"),
        (("--mean", "0.5,0.5"), "2 numbers"),
    ],
)
def test_wrong_ranges_are_one_line(
    fastgan: Fastgan, tmp_path: Path, silent, options, named
) -> None:
    picture(tmp_path / "a.png", 8, 9, 3)
    outcome = fastgan("apply", silent, "-i", "a.png", *options)
    assert outcome.code == 2
    assert named in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("out/a_out.png").exists()


def test_inspect_shows_and_writes_the_signature(fastgan: Fastgan, tmp_path: Path, silent) -> None:
    beside = tmp_path / "silent.fastgan.json"
    shown = fastgan("inspect", silent)
    assert "guessed, thin: " in shown.out
    assert not beside.exists()
    wrote = fastgan("inspect", silent, "--range", "-1:1", "--write-signature")
    assert f"wrote {beside}" in wrote.out
    assert engine.load(silent, device="cpu").signature.image.range == (-1, 1)
    again = fastgan("inspect", silent, "--mean", "1,2,3", "--write-signature", "--json")
    assert f"replaced {beside}" in again.err
    facts = json.loads(again.out)
    assert facts["inputs"][0]["mean"] == [1, 2, 3]
    assert facts["inputs"][0]["range_because"] is None
    assert json.loads(beside.read_text())["inputs"][0]["std"] == [1, 1, 1]
    assert engine.load(silent, device="cpu").signature.image.mean == (1, 2, 3)
    assert files(tmp_path) == ["silent.fastgan.json", "silent.onnx"]


def test_a_shipped_model_gets_no_file(fastgan: Fastgan) -> None:
    outcome = fastgan("inspect", "superres-x2", "--write-signature")
    assert outcome.code == 2
    assert "ships" in outcome.err
