"""Scales, noise, bias and activation in one native pass, against the same in torch's ops."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

from fastgan.engine.library import modulated
from fastgan.plan import Epilogue

pytestmark = pytest.mark.cpu


@pytest.mark.skipif(not hasattr(modulated._native, "modulate"), reason="no native part is built")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("number", range(6))
def test_one_pass(number: int, dtype: torch.dtype) -> None:
    pick = random.Random(torch.initial_seed())
    n, channels, size = pick.choice((1, 3)), pick.choice((2, 17, 64)), pick.choice((1, 5, 48))
    x = torch.randn(n, channels, size, size, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    rows = pick.choice((1, n))
    scale = torch.randn(rows, channels, 1, 1, dtype=dtype) if pick.random() < 0.8 else None
    noise = torch.randn(pick.choice((1, n)), 1, size, size, dtype=dtype)
    noise = noise if pick.random() < 0.8 else None
    bias = torch.randn(channels, dtype=dtype) if pick.random() < 0.8 else None
    activation = pick.choice(("none", "relu", "leaky_relu"))

    value = x.double() * (1 if scale is None else scale.double())
    value = value + (0 if noise is None else noise.double())
    value = value + (0 if bias is None else bias.double()[:, None, None])
    slope = {"none": 1.0, "relu": 0.0, "leaky_relu": 0.2}[activation]
    expected = F.leaky_relu(value, slope).to(dtype)

    out = torch.full_like(x, torch.nan)
    run = modulated._Pass(bias, Epilogue(activation, (0.2,) if activation == "leaky_relu" else ()))
    assert run(x, scale, noise, out) is out
    exact = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0, "rtol": 2**-7}
    assert torch.allclose(out, expected, **exact)
    assert run(x, scale, noise) is x
    assert torch.equal(x, out)
