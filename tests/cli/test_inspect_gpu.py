"""`fastgan inspect --gpu`: the floor of each step, on any machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_it_prints_a_floor(fastgan: Callable[..., Any]) -> None:
    command = ("inspect", "dcgan-digits", "--gpu", "h200", "--batch", "64")
    done = fastgan(*command)
    assert done.code == 0, done.err
    assert "not measured" in done.out
    assert "images/s" in done.out
    facts = json.loads(fastgan(*command, "--json").out)["prediction"]
    assert facts["precision"] == "fp16"
    assert facts["seconds"] == pytest.approx(sum(s["seconds"] for s in facts["steps"]))
    assert facts["images_per_second"] == pytest.approx(64 / facts["seconds"])


def test_fp8_is_of_the_large_layers_alone(fastgan: Callable[..., Any]) -> None:
    command = ("inspect", "dcgan-digits", "--gpu", "h200", "--precision", "fp8", "--batch", "1024")
    done = fastgan(*command)
    assert done.code == 0, done.err
    assert done.out.count("ConvTranspose e4m3") == 1
    steps = json.loads(fastgan(*command, "--json").out)["prediction"]["steps"]
    half = json.loads(fastgan(*command[:4], "--batch", "1024", "--json").out)["prediction"]["steps"]
    faster = [a["seconds"] < b["seconds"] for a, b in zip(steps, half, strict=True)]
    # The layer itself, and the one that writes its input.
    assert faster == [False, False, False, True, True, False]
    assert [step["eight_bits"] for step in steps].index(True) == 4


@pytest.mark.parametrize("wrong", [("--gpu", "h300"), ("--gpu", "t4", "--precision", "bf16")])
def test_what_is_not_known_is_refused(fastgan: Callable[..., Any], wrong: tuple[str, ...]) -> None:
    done = fastgan("inspect", "dcgan-digits", *wrong)
    assert done.code == 2
    assert wrong[-1] in done.err


def test_it_needs_no_triton(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "sys.argv = ['fastgan', 'inspect', 'superres-x2', '--gpu', 'l4']\n"
        "from fastgan.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout
