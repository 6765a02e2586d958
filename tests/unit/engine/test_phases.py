"""A transposed convolution by phases, against eager PyTorch."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

from fastgan.engine.library import phases
from fastgan.host import processor
from fastgan.plan import Buffer, Step

pytestmark = pytest.mark.cpu


@pytest.mark.skipif(not processor.has_onednn(), reason="this torch has no oneDNN operators")
@pytest.mark.parametrize("number", range(12))
def test_any_geometry(number: int) -> None:
    pick = random.Random(torch.initial_seed())
    strides = (pick.randint(1, 3), pick.randint(2, 3))
    kernel = tuple(s + pick.randint(0, 4) for s in strides)
    pads = tuple(pick.randint(0, k - 1) for k in kernel)
    extra = tuple(pick.randint(0, s - 1) for s in strides)
    x = torch.randn(pick.randint(1, 3), pick.choice((1, 5, 16)), 9, 8)
    weight = torch.randn(x.shape[1], pick.choice((1, 7, 16)), *kernel)
    expected = F.conv_transpose2d(x, weight, None, strides, pads, extra)
    step = Step(
        "fastgan.ConvTranspose",
        ("x", "w"),
        ("y",),
        {
            "strides": strides,
            "pads": (*pads, *pads),
            "output_padding": extra,
            "dilations": (1, 1),
            "group": 1,
        },
    )
    planned = Buffer("x", tuple(x.shape), x.dtype), Buffer("y", tuple(expected.shape), x.dtype)
    bound = phases.bind(step, weight, *planned)
    assert bound is not None
    assert torch.allclose(bound.call(x), expected, atol=1e-4, rtol=1e-4)
