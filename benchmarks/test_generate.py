"""Images per second, ours and every peer's, at each batch size: for pytest-benchmark.

    pytest benchmarks --benchmark-only

Its rounds follow one another, so a busy machine can favour one contender over the next; figures to
quote come from `python -m benchmarks.run`, in which all take turns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

import fastgan
from benchmarks.models import MODELS
from fastgan.errors import ArgumentError
from fastgan.host import processor
from fastgan.loading import open_model
from fastgan.measure import machine
from fastgan.measure.bench import SIZES, ours
from fastgan.measure.bench.peers import PEERS, Contender, MissingError, Setting, registry_module

#: Seconds of timed rounds for each case; at least three rounds.
SECONDS = 1.0
OURS = ("fastgan", "fastgan fed", "fastgan bf16", "fastgan bf16 fed")


@pytest.fixture(autouse=True)
def all_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(machine.cores())
    yield
    torch.set_num_threads(before)


@cache
def setting(model: str) -> Setting:
    """The model and what all contenders share; skips where the model is not there."""
    try:
        made = MODELS[model]()
    except ArgumentError as error:
        pytest.skip(str(error))
    model = open_model(made.source)
    module = made.module or registry_module(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Setting(model, device, machine.cores(), *module)


@cache
def contender(model: str, name: str) -> Contender:
    """One of ours or of the peers; skips, with the reason, where it can't take part."""
    shared = setting(model)
    if name in PEERS:
        try:
            return PEERS[name](shared)
        except MissingError as error:
            pytest.skip(f"{name}: {error}")
    precision = "bf16" if "bf16" in name else "auto"
    if precision == "bf16" and shared.device.type == "cpu" and not processor.has_bfloat16():
        pytest.skip("no bf16 instructions on this CPU")
    generator = fastgan.load(MODELS[model]().source, precision=precision)
    own = ours(generator, shared.model, name.removesuffix(" fed"))
    return next(made for made in own if made.name == name)


@pytest.mark.parametrize("name", [*OURS, *PEERS])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("model", MODELS)
def test_generate(benchmark: Any, model: str, n: int, name: str) -> None:
    if name.endswith("bf16") and name in PEERS and not processor.has_bfloat16():
        pytest.skip("no bf16 instructions on this CPU")
    run = contender(model, name).prepare(n)
    run()
    began = time.perf_counter()
    run()
    rounds = min(1000, max(3, int(SECONDS / (time.perf_counter() - began))))
    benchmark.group = f"{model}, n = {n}"
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["images_per_second"] = n / benchmark.stats.stats.median
