"""`fastgan inspect --why`: what became of one ONNX node."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_it_says_which_step_a_node_is_in(fastgan: Callable[..., Any]) -> None:
    done = fastgan("inspect", "dcgan-digits", "--why", "node_leaky_relu_2")
    assert done.code == 0, done.err
    assert "in step 3 of 6: Linear" in done.out
    assert "by FuseActivation(Linear, LeakyRelu) (activation into the epilogue)" in done.out
    told = json.loads(
        fastgan("inspect", "dcgan-digits", "--why", "node_leaky_relu_2", "--json").out
    )
    assert "\n".join(told["why"]) == done.out.rstrip("\n")


def test_a_name_that_is_none(fastgan: Callable[..., Any], rgb: Path) -> None:
    done = fastgan("inspect", rgb, "--why", "nothing-like-it-zzz")
    assert done.code == 2
    assert done.err.startswith("fastgan: --why: found 'nothing-like-it-zzz'")
    assert done.err.count("\n") == 1
