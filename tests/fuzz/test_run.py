"""Mutants, read, loaded and run on both engines: what they raise is ours, whatever they ask for.

The seeds are fixed, since a mutant may end the process of a runtime; `campaign` tries others.
"""

from __future__ import annotations

import logging
import random

import pytest

from fastgan.errors import FastganError
from fastgan.model.file import read
from tests.fuzz.campaign import use
from tests.fuzz.mutate import corpus, mutant, shipped


@pytest.mark.parametrize("backend", ["auto", "ort"])
@pytest.mark.parametrize(("of", "count"), [("onnx", 150), ("shipped", 16)])
def test_mutants_raise_errors_of_ours(
    of: str, count: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "ort":
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(logging.getLogger("fastgan"), "disabled", True)
    models = corpus() if of == "onnx" else shipped()
    ran = 0
    for seed in range(count):
        data = mutant(random.Random(f"run/{seed}"), models)
        try:
            read(data)
        except FastganError:
            continue
        ran += 1
        assert use(data, backend) == "", f"mutant run/{seed} of {of}"
    assert ran > 3
