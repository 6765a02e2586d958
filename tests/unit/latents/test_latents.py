"""The Python face: what a caller may ask for, gets, and is told."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from fastgan import latents
from fastgan.errors import ArgumentError

DISTRIBUTIONS = ("normal", "uniform", "uniform_symmetric", "hypersphere")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("start", [0, 2**32 - 3])
def test_a_batch_is_its_parts_one_after_the_other(distribution, start):
    draw = {"shape": (5, 7), "seed": 2**40 + 1, "stream": 2}
    whole = latents.sample(distribution, 11, start=start, **draw)
    assert whole.shape == (11, 5, 7)
    parts = [
        latents.sample(distribution, 4, start=start, **draw),
        latents.sample(distribution, 1, start=start + 4, **draw),
        latents.sample(distribution, 6, start=start + 5, **draw),
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_seed_stream_and_index_each_make_other_numbers():
    base = latents.normal(2, 50, seed=1)
    assert torch.equal(base, latents.normal(2, 50, seed=1))
    assert not torch.equal(base[0], base[1])
    for other in ({"seed": 2}, {"seed": 1 + 2**32}, {"seed": 1, "stream": 1}):
        assert not torch.equal(base, latents.normal(2, 50, **other))


def test_out_is_written_and_returned():
    out = torch.full((3, 100, 1, 1), float("nan"))
    assert latents.sample("normal", 3, (100, 1, 1), seed=5, out=out) is out
    assert torch.equal(out.view(3, 100), latents.normal(3, 100, seed=5))
    channels_last = out.to(memory_format=torch.channels_last).fill_(float("nan"))
    latents.sample("normal", 3, (100, 1, 1), seed=5, out=channels_last)
    assert torch.equal(channels_last, out)


def test_an_out_that_asks_for_gradients_is_written_too():
    out = torch.full((2, 3), float("nan"), requires_grad=True)
    assert torch.equal(latents.normal(2, 3, out=out).detach(), latents.normal(2, 3))


@pytest.mark.parametrize(("seed", "start"), [(0, 0), (7, 3), (2**32 - 2, 0)])
def test_rng_numpy_is_one_random_state_per_seed(seed, start):
    found = latents.sample("normal", 2, (16, 2), seed=seed, start=start, rng="numpy")
    for i in range(2):
        expected = np.random.RandomState(seed + start + i).randn(1, 32).astype(np.float32)
        np.testing.assert_array_equal(found[i].numpy().reshape(1, 32), expected)


def test_ranges():
    uniform = latents.uniform(100, 1000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    symmetric = latents.sample("uniform_symmetric", 100, (1000,))
    assert symmetric.min() >= -1
    assert symmetric.max() < 1
    assert torch.equal(symmetric, 2 * uniform - 1)
    for truncation in (1e-3, 0.1, 0.7, 1, 2.5, 100):
        assert latents.normal(100, 1000, truncation=truncation).abs().max() <= truncation
    norms = latents.hypersphere(1000, 3).double().norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=3e-7)
    assert torch.equal(latents.hypersphere(1000, 1).abs(), torch.ones(1000, 1))


def test_labels():
    assert latents.labels(5, 1).tolist() == [0] * 5
    found = latents.labels(10_000, 2**31, seed=9)
    assert found.dtype == torch.int64
    assert found.min() >= 0
    assert 2**30 < found.max() < 2**31
    out = torch.full((4,), -1)
    assert latents.labels(4, 10, seed=9, start=3, out=out) is out
    assert torch.equal(out, latents.labels(7, 10, seed=9)[3:])


REFUSED = [
    ("n", {"n": 0}),
    ("n", {"n": 2.5}),
    ("shape", {"shape": (0,)}),
    ("shape", {"shape": (2**20, 2**20)}),
    ("seed", {"seed": -1}),
    ("seed", {"seed": 2**64}),
    ("seed", {"seed": "7"}),
    ("start", {"start": -1}),
    ("start", {"start": 2**64 - 1}),
    ("stream", {"stream": 2**32}),
    ("truncation", {"truncation": 0.0}),
    ("truncation", {"truncation": -1.0}),
    ("truncation", {"truncation": float("nan")}),
    ("truncation", {"truncation": float("inf")}),
    ("truncation", {"truncation": "1"}),
    ("truncation", {"truncation": 1.0, "distribution": "uniform"}),
    ("distribution", {"distribution": "cauchy"}),
    ("rng", {"rng": "mersenne"}),
    ("rng", {"rng": "numpy", "distribution": "hypersphere"}),
    ("rng", {"rng": "numpy", "truncation": 1.0}),
    ("seed", {"rng": "numpy", "seed": 2**32 - 1}),
    ("threads", {"threads": 0}),
    ("out", {"out": torch.zeros(2, 9)}),
    ("out", {"out": torch.zeros(2, 8, dtype=torch.float16)}),
    ("out", {"out": torch.zeros(8, 2).T}),
    ("out", {"out": torch.zeros(2, 8), "device": "meta"}),
    ("out", {"out": np.zeros((2, 8), np.float32)}),
    ("device", {"device": "toaster"}),
    ("device", {"device": "cuda:4096"}),
]


@pytest.mark.parametrize(("where", "change"), REFUSED, ids=str)
def test_a_wrong_argument_is_named(where, change):
    arguments = {"distribution": "normal", "n": 2, "shape": (8,), **change}
    with pytest.raises(ArgumentError) as caught:
        latents.sample(**arguments)
    assert caught.value.where == where


@pytest.mark.parametrize("classes", [0, -3, 2**31 + 1, 2.0])
def test_a_wrong_number_of_classes_is_named(classes):
    with pytest.raises(ArgumentError, match="classes"):
        latents.labels(2, classes)


def test_importing_latents_imports_nothing_heavy_beside_torch():
    code = (
        "import sys, torch; before = set(sys.modules); import fastgan.latents;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "heavy = new & {'triton', 'onnx', 'onnxscript', 'onnxruntime', 'scipy', 'rich'};"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_available_says_which_ways_there_are():
    ways = latents.available()
    assert list(ways) == ["cpu native", "cpu numpy", "cuda native", "cuda triton"]
    assert ways["cpu numpy"] == np.__version__
