"""Latents on a GPU equal those on the CPU, bit for bit, by either way of making them."""

import os
import subprocess
import sys

import pytest
import torch

from fastgan import latents

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]

PROGRAM = """
import sys, torch
from fastgan import latents

if sys.argv[1] == "triton":
    latents._cuda_library = lambda: None
elif latents._cuda_library() is None:
    print("not built")
    sys.exit()
for n, size, start, seed in ((1, 1, 0, 0), (700, 100, 2**32 - 5, 7), (65, 513, 2**40, 2**63 + 1)):
    where = {"start": start, "seed": seed}
    for name, options in {
        "normal": {}, "normal ": {"truncation": 0.4}, "normal  ": {"truncation": 9.0},
        "uniform": {}, "uniform_symmetric": {}, "hypersphere": {},
    }.items():
        out = torch.full((n, size), float("nan"), device="cuda")
        latents.sample(name.strip(), n, (size,), out=out, **where, **options)
        expected = latents.sample(name.strip(), n, (size,), **where, **options)
        assert torch.equal(out.cpu(), expected), (name, options, n, size, where)
    assert torch.equal(latents.labels(n, 1000, device="cuda", **where).cpu(),
                       latents.labels(n, 1000, **where))
from fastgan.kernels import latents as kernels
seed, start, n = 2**63 + 1, 2**32 - 3, 5
for size in (1, 100, 513, 4096):
    for name, truncation in (("normal", None), ("normal", 0.4), ("hypersphere", None)):
        recipe = latents.recipe(
            name, n, seed=seed, start=start, stream=3, truncation=truncation
        )
        words = kernels.words(*recipe[1:4], *recipe[4])
        state = torch.tensor(words, dtype=torch.int32, device="cuda")
        out = torch.empty((n, size), device="cuda")
        where = {"seed": seed, "stream": 3, "truncation": truncation}
        kernels.fill_next(recipe[0], out, state)
        state.copy_(torch.tensor(words, dtype=torch.int32))
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kernels.fill_next(recipe[0], out, state)
        for turn in range(3):
            graph.replay()
            expected = latents.sample(name, n, (size,), start=start + turn * n, **where)
            assert torch.equal(out.cpu(), expected), (name, truncation, size, turn)
print("equal")
"""


@pytest.mark.parametrize("way", ["native", "triton"])
def test_a_gpu_gives_the_cpus_numbers(way):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if way == "triton" and latents.available()["cuda triton"] is None:
        pytest.skip("triton is not installed")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, way], env=environment, capture_output=True, text=True
    )
    if result.stdout == "not built\n":
        pytest.skip("fastgan._native_cuda was not built")
    assert result.stdout == "equal\n", result.stderr
