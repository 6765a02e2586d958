"""`fastgan bundle`, and what `inspect` says of its file."""

from __future__ import annotations

import json
from pathlib import Path


def test_a_bundle_is_made_and_shown(fastgan, tmp_path: Path) -> None:
    path = tmp_path / "new" / "digits.fgb"
    made = fastgan("bundle", "vae-digits", "-o", path, "--batch", "4,1")
    assert made.code == 0, made.err
    assert "batches 1, 4" in made.out
    shown = fastgan("inspect", path)
    assert shown.code == 0, shown.err
    assert "a bundle of vae-digits.onnx" in shown.out
    assert "latent" in shown.out
    facts = json.loads(fastgan("inspect", path, "--json").out)
    assert [program["batch"] for program in facts["programs"]] == [1, 4]
    assert facts["bytes"] == path.stat().st_size


def test_a_bundle_says_its_precision(fastgan, tmp_path: Path) -> None:
    path = tmp_path / "digits.fgb"
    assert fastgan("bundle", "vae-digits", "-o", path, "--precision", "bf16").code == 0
    assert "batch 1: bf16, " in fastgan("inspect", path).out


def test_a_bundle_is_tried_as_on_other_processors(fastgan, tmp_path: Path) -> None:
    path = tmp_path / "digits.fgb"
    made = fastgan("bundle", "vae-digits", "-o", path, "--cpu", "portable, avx2", "--json", "-")
    assert made.code == 0, made.err
    assert list(json.loads(made.out)["cpu_seconds"]) == ["portable", "avx2"]
    assert json.loads(made.out)["cpu_seconds"]["portable"] > 0
    again = tmp_path / "again.fgb"
    made = fastgan("bundle", "vae-digits", "-o", again, "--cpu", "portable")
    assert "as with portable: runs, " in made.out
    assert again.read_bytes() == path.read_bytes(), "nothing of the file depends on it"


def test_what_cant_be_bundled_is_one_line(fastgan, tmp_path: Path) -> None:
    path = tmp_path / "model.fgb"
    for arguments, text in (
        (("vae-digits", "-o", tmp_path / "model.onnx"), "ends in .fgb"),
        (("vae-digits", "-o", path, "--batch", "1,x"), "whole numbers"),
        (("superres-x4", "-o", path), "such as 256x256"),
        (("superres-x4", "-o", path, "--size", "big"), "--size"),
        (("vae-digits", "-o", path, "--precision", "fp8"), "fp32 or bf16"),
        (("vae-digits", "-o", path, "--cpu", "avx2,sse"), "found sse"),
    ):
        result = fastgan("bundle", *arguments)
        assert result.code == 2
        assert text in result.err
        assert "Traceback" not in result.err
        assert not path.exists()
    assert fastgan("bundle", "vae-digits", "-o", path).code == 0
    other = tmp_path / "other.fgb"
    for words, text in (
        (("bench", path), "found a bundle; needed the ONNX file"),
        (("bundle", path, "-o", other), "found a bundle; needed the ONNX file"),
        (("inspect", path, "--why", "x"), "--why: found a bundle"),
        (("inspect", path, "--range", "0:1"), "--range"),
        (("inspect", path, "--write-signature"), "--write-signature: found a bundle"),
    ):
        result = fastgan(*words)
        assert (result.code, text in result.err) == (2, True), result.err
    path.write_bytes(b"fastgan\n" + bytes(100))
    damaged = fastgan("inspect", path)
    assert damaged.code == 2
    assert len(damaged.err.strip().splitlines()) == 1
