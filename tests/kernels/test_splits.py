"""Split reductions: the same bits in whatever order the parts arrive, launch after launch."""

from itertools import permutations

import pytest
import torch

from fastgan.kernels import conv_transpose, linear
from fastgan.kernels.conv_transpose.cases import Case
from fastgan.kernels.table import BY_NAME
from fastgan.kernels.types import INTERPRETED, Config
from tests.drawing import new_generator
from tests.kernels.tolerances import assert_close

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="a GPU's order is its own")


def arriving(monkeypatch, order):
    """Programs of a tile, interpreted one after the other, come in this order."""
    from triton.runtime.interpreter import interpreter_builder

    real = type(interpreter_builder).set_grid_idx
    monkeypatch.setattr(
        type(interpreter_builder),
        "set_grid_idx",
        # A tile of odd number has them the other way round.
        lambda self, x, y, z: real(self, x, order[y] if x % 2 == 0 else order[-1 - y], z),
    )


def every_order(monkeypatch, prepared, splits):
    """The results, of the same memory for parts."""
    made = []
    for order in permutations(range(splits)):
        with monkeypatch.context() as patch:
            arriving(patch, order)
            made.append(prepared.run().clone())
    return made


def test_convolutions(monkeypatch, device):
    kernel = BY_NAME["conv_transpose"]
    case = Case(1, 20, 1, 2, 5, dtype=torch.float16)
    inputs = kernel.inputs(case, new_generator(device), device)
    config = Config(16, 16, 16, split_k=3)
    prepared = conv_transpose.prepare(**inputs.launch, config=config)
    made = every_order(monkeypatch, prepared, 3)
    assert len(made) == 6
    assert_close(made[0], kernel.reference(**inputs.reference), case.dtype)
    assert all(torch.equal(each, made[0]) for each in made)
    (call,) = prepared.calls
    assert not call.arguments["parts"].arrived.any()  # ready for the next launch


def test_rows(monkeypatch, device):
    kernel = BY_NAME["linear"]
    case = kernel.cases[2]
    inputs = kernel.inputs(case, new_generator(device), device)
    prepared = linear.prepare(**inputs.launch, config=Config(16, 32, 16, split_k=4))
    made = every_order(monkeypatch, prepared, 4)
    assert_close(made[0], kernel.reference(**inputs.reference), case.dtype)
    assert all(torch.equal(each, made[0]) for each in made)
