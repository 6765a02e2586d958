"""What a newcomer types first: nothing, the tab key, a name that is nearly right."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
import typer

import fastgan as library
from fastgan import models
from fastgan.cli import app, options
from fastgan.errors import ArgumentError


def test_alone_it_shows_three_lines_that_work(fastgan) -> None:
    lines = [line for line in fastgan().out.splitlines() if line.startswith("  fastgan ")]
    assert len(lines) == 3
    commands = typer.main.get_command(app()).commands
    for line in lines:
        _, command, *words = shlex.split(line.partition("#")[0])
        known = {word for option in commands[command].params for word in option.opts}
        assert all(word in known for word in words if word.startswith("--"))


def test_every_command_says_in_60_characters_what_it_is_for() -> None:
    """So that 80 columns do not cut the list of commands."""
    for name, command in typer.main.get_command(app()).commands.items():
        assert len(command.help.split(".")[0]) <= 60, name


def test_it_is_a_module_too() -> None:
    command = [sys.executable, "-m", "fastgan", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"fastgan {library.__version__}\n"


@pytest.mark.parametrize(("typed", "found"), [("gen", "generate"), ("inspect dcgan-d", "digits")])
def test_a_shell_completes(typed, found) -> None:
    """As the script of `fastgan --show-completion bash` asks."""
    words = f"fastgan {typed}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    code = "from fastgan.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'fastgan'; {code}"],
        env={**os.environ, **asked, "_FASTGAN_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
    )
    assert found in done.stdout, done.stderr


def test_models_are_completed_with_files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("dcgan[1].onnx", "dcgan.txt", "other.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "dcgans").mkdir()
    assert options.models("dcgan") == ["dcgan-digits", "dcgan[1].onnx", "dcgans/"]
    assert options.models("dcgan[") == ["dcgan[1].onnx"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("inspect", "dcgan-digit"), "dcgan-digits"),
        (("models", "vae-digit"), "vae-digits"),
        (("evaluate", "cgan-digits", "--like", "cgan-digit"), "cgan-digits"),
        (("generate", "dcgan-digits", "--input", "latend=1"), "latent"),
        (("train", "superres", "--set", "scal=4"), "scale"),
        (("generat", "dcgan-digits"), "generate"),
        (("cgan-digits",), "fastgan generate cgan-digits"),
        (("superres-x", "-i", "a.png"), "fastgan apply superres-x"),
        (("vae-digits-encoder",), "fastgan inspect vae-digits-encoder"),
        (("some.onnx",), "fastgan inspect some.onnx"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered(fastgan, words, meant) -> None:
    done = fastgan(*words)
    assert done.code == 2
    assert f"id you mean {meant}" in done.err.replace("'", ""), done.err


def test_an_option_that_is_nearly_right_is_answered(fastgan) -> None:
    assert "--seed" in fastgan("generate", "dcgan-digits", "--sed", "1").err


def test_a_name_like_none_is_told_where_names_are(fastgan) -> None:
    assert "'fastgan models'" in fastgan("inspect", "something").err


@pytest.mark.parametrize("command", ["live", "inspect", "apply", "bench", "generate"])
def test_without_a_model_it_says_where_models_are(fastgan, command) -> None:
    done = fastgan(command, *(["-i", "a.png"] if command == "apply" else []))
    assert done.code == 2
    assert "models" in done.err
    assert done.err.count("\n") == 1


def test_generate_says_what_is_for_pictures(fastgan, tmp_path) -> None:
    done = fastgan("generate", "superres-x2", "--outdir", tmp_path / "out")
    assert done.code == 2
    assert "fastgan apply is for it" in done.err
    assert not (tmp_path / "out").exists()


def test_what_was_never_asked_for_is_not_refused(fastgan, tmp_path) -> None:
    assert "not triton" not in fastgan("generate", "dcgan-digits", "--outdir", tmp_path).out


def test_models_as_json_and_as_cards(fastgan) -> None:
    facts = json.loads(fastgan("models", "--json").out)
    assert [each["name"] for each in facts] == list(models.names())
    (digits,) = json.loads(fastgan("models", "dcgan-digits", "--json").out)
    assert digits in facts
    assert (digits["takes"], digits["licence"]) == (["latent"], "CC BY 4.0")
    assert digits["bytes"] == models.path("dcgan-digits").stat().st_size
    assert all(each["licence"] != "not stated" for each in facts)
    assert fastgan("models", "dcgan-digits").out.startswith("# dcgan-digits\n")


def test_compare_as_json(fastgan, rgb) -> None:
    done = fastgan("compare", rgb, "--n", 2, "--json", "-")
    record = json.loads(done.out)
    rows = {(row["backend"], row["precision"]): row for row in record["rows"]}
    assert record["images"] == 2
    assert rows["torch", "fp32"]["within"] is True
    assert rows["torch", "fp32"]["max_abs"] <= 2e-5
    assert rows["triton", "fp32"]["refusal"]


def test_a_module_is_told_of_export() -> None:
    with pytest.raises(ArgumentError, match=r"Linear.*a path or bytes.*fastgan\.export"):
        library.load(torch.nn.Linear(2, 2))
