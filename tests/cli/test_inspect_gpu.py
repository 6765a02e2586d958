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
