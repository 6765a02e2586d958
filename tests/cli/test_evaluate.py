"""`fastgan evaluate`: the figures on stdout or as JSON, in the precisions asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fastgan.recipes.evaluation import Figure, table
from tests.instructions import needs_bfloat16

pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True)
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cheap figure that is reached in fp32 and missed in bf16, and one without a promise."""

    def judge(generator):
        exact = generator.precision == "fp32"
        return {
            "worth": Figure(0.5 if exact else 0.1, "what it is", least=0.3, baseline=0.4),
            "size": Figure(float(generator.generate(2).shape[-1]), "of an image", unit="px"),
        }

    monkeypatch.setattr(table, "FIGURES", {"judge": judge})


def test_a_table_and_its_verdict(fastgan, rgb: Path) -> None:
    good = fastgan("evaluate", rgb, "--like", "judge", "--precision", "fp32")
    assert good.code == 0
    worth = next(line for line in good.out.splitlines() if line.startswith(" worth"))
    assert worth.split()[:6] == ["worth", "0.500", ">=", "0.3", "0.400", "ok"]
    assert "8.00 px" in good.out


@needs_bfloat16
def test_a_lower_precision_may_miss(fastgan, rgb: Path) -> None:
    both = fastgan("evaluate", rgb, "--like", "judge")
    assert both.code == 1
    assert "MISSED" in both.out
    assert "not on this CPU" in both.out or "fp16" in both.out


@needs_bfloat16
def test_json(fastgan, rgb: Path, tmp_path: Path) -> None:
    for place in ("-", tmp_path / "deep" / "figures.json"):
        result = fastgan("evaluate", rgb, "--like=judge", "--precision=fp32,bf16", "--json", place)
        assert result.code == 1
        found = json.loads(result.out if place == "-" else place.read_text())
        assert list(found["figures"]) == ["fp32", "bf16"]
        assert found["figures"]["fp32"]["worth"]["reached"] is True
        assert found["figures"]["bf16"]["worth"]["reached"] is False
        assert found["figures"]["bf16"]["size"]["reached"] is None
        assert found["reached"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "'rgb': no shipped model; needed judge"),
        (["--like", "judge", "--precision", "fp31"], "fp31"),
        (["--like", "judge", "--precision", ","], "such as fp32,bf16"),
    ],
)
def test_what_cannot_be_judged(fastgan, rgb: Path, options: list[str], message: str) -> None:
    result = fastgan("evaluate", rgb, *options)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert message in result.err


def test_a_figure_knows_what_it_must_reach() -> None:
    assert Figure(1, "").reached is None
    assert Figure(1, "", least=1).reached
    assert not Figure(1, "", least=0, most=0.9).reached
    assert Figure(float("nan"), "", least=0).reached is False
    assert Figure(1, "", least=5, most=15, unit="%").promise == "5 to 15 %"


def test_any_generator_against_a_folder(fastgan, tmp_path: Path) -> None:
    for index in range(3):
        Image.effect_noise((40, 50), 60).save(tmp_path / f"{index}.png")
    options = ("--data", tmp_path, "--n", 8, "--precision", "fp32")
    result = fastgan("evaluate", "dcgan-digits", *options)
    assert result.code == 0
    assert "kernel distance" in result.out
    assert "Frechet distance" not in result.out  # three images make no covariance
    for wrong, message in (
        (("--data", tmp_path / "none"), "no folder"),
        (("--data", tmp_path, "--inception", tmp_path / "none.pth"), "torch-fidelity"),
        (("--inception", tmp_path / "none.pth"), "no --data"),
        (("--data", tmp_path, "--n", 1), "at least 2"),
    ):
        result = fastgan("evaluate", "dcgan-digits", "--precision", "fp32", *wrong)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert message in result.err
