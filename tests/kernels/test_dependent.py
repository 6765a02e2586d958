"""Launches that begin before the one before has ended, and products in three parts."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from fastgan.kernels.table import KERNELS
from fastgan.kernels.tiles import Product, configs, refinements
from fastgan.kernels.types import INTERPRETED, Call, Config

PRODUCTS = [kernel for kernel in KERNELS if kernel.multiplies]

# In a process of its own, since TRITON_INTERPRET holds for a whole process.
PROGRAM = """
import re
import torch
from benchmarks.compiled import compile_call
from fastgan.kernels.table import KERNELS
from fastgan.kernels.tiles import refinements

READS = r"ld\\.global|cp\\.async|st\\.global|atom\\.|prefetch|ldmatrix|mbarrier"
for kernel in KERNELS:
    if not kernel.multiplies:
        continue
    case = kernel.main_cases[0]
    inputs = kernel.inputs(case, None, torch.device("meta"))
    plain = kernel.configs(case, (9, 0))[0]
    (tile,) = refinements(plain, (9, 0))
    for config in (plain, tile):
        (call, *_) = kernel.prepare(**inputs.launch, config=config).calls
        made = compile_call(call, 90)
        before, *after = made.asm["ptx"].split("griddepcontrol.wait")
        assert len(after) == config.dependent and made.metadata.launch_pdl == config.dependent
        code = before[before.index(".entry"):]
        assert not after or not re.search(READS, code), (kernel.name, code)
        assert not after or "griddepcontrol.launch_dependents" in after[0]
        print(kernel.name, config.label)
"""


def test_nothing_is_read_or_written_before_the_wait(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 2 * len(PRODUCTS)


@pytest.mark.parametrize("kernel", PRODUCTS, ids=lambda kernel: kernel.name)
def test_where_nothing_overlaps_it_is_the_same_launch(kernel):
    case = kernel.cases[0]
    device = torch.device("cpu" if INTERPRETED else "cuda")
    inputs = kernel.inputs(case, torch.Generator(device).manual_seed(3), device)
    config = kernel.configs(case, (0, 0))[0]
    expected = kernel.prepare(**inputs.launch, config=config).run().clone()
    made = kernel.prepare(**inputs.launch, config=config.with_(dependent=True))
    assert all(call.options["launch_pdl"] for call in made.calls)
    assert torch.equal(made.run(), expected)


def test_what_does_not_wait_is_never_launched_early():
    early = Config(16, 64, 4, dependent=True)
    assert "launch_pdl" not in Call(None, (1,), {"x": 1}, early).options
    assert refinements(early, (8, 9)) == []


@pytest.mark.skipif(not INTERPRETED, reason="the list is that of a GPU without one")
def test_three_products_are_for_float32_on_tensor_cores(monkeypatch):
    monkeypatch.setattr("fastgan.kernels.tiles.INTERPRETED", False)
    product = Product(4096, 256, 512, dtype=torch.float32)
    chosen = configs(product, (9, 0))
    assert not chosen[0].tf32x3  # nobody has measured it
    assert any(config.tf32x3 for config in chosen)
    assert {config.multiplies_in("ieee") for config in chosen} == {"ieee", "tf32x3"}
    others = (replace(product, precision="tf32"), replace(product, dtype=torch.float16))
    for other in others:
        assert not any(config.tf32x3 for config in configs(other, (9, 0)))
