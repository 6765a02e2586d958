"""The Triton sampler against the specification, bit for bit, in Triton's interpreter."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
import torch

from fastgan.latents import philox

triton = pytest.importorskip("triton", reason="triton is not installed")
from fastgan.kernels import latents as kernels  # noqa: E402
from tests import drawing  # noqa: E402
from tests.draws import DRAWS  # noqa: E402

pytestmark = pytest.mark.skipif(
    isinstance(kernels._fill_kernel, triton.JITFunction),
    reason="the kernels were imported without TRITON_INTERPRET=1",
)


@pytest.mark.parametrize("draw", DRAWS)
def test_triton_equals_the_specification(draw):
    kind, parameters = DRAWS[draw]
    rng = drawing.new_numpy()
    cases = [
        (1, 1, 0, 0),
        (1, 2, 2**64 - 1, 2**64 - 1),
        (5, 33, 2**32 - 2, 2**32),
        (17, 100, 2**63, 2**31),
        (2, 1025, 1, 2**63 + 5),
        (*rng.integers(1, 50, 2).tolist(), *rng.integers(0, 2**63, 2).tolist()),
    ]
    for n, size, start, seed in cases:
        expected = np.empty((n, size), np.uint32 if kind == philox.BITS else np.float32)
        where = {"seed": seed, "start": start, "stream": 2**32 - 1}
        philox.fill(kind, expected, parameters=parameters, **where)
        guarded = torch.full((n + 2, size), 99, dtype=torch.float32)
        if kind == philox.BITS:
            guarded = guarded.to(torch.int32)
        kernels.fill(kind, guarded[1:-1], *where.values(), *parameters)
        found = guarded[1:-1].numpy().view(np.uint32)
        np.testing.assert_array_equal(found, expected.view(np.uint32), f"{n} x {size}, {where}")
        assert (guarded[[0, -1]] == 99).all(), "written outside of the buffer"


@pytest.mark.parametrize("draw", DRAWS)
def test_a_state_stands_behind_what_was_drawn(draw):
    kind, parameters = DRAWS[draw]
    seed, stream = int(drawing.new_numpy().integers(0, 2**63)) * 2 + 1, 2**32 - 7
    for start, size in ((2**32 - 3, 33), (2**64 - 9, 700), (5, 1)):
        state = torch.tensor(kernels.words(seed, start, stream, *parameters), dtype=torch.int32)
        for n in (1, 4, 2):  # with 33 elements one program, with 700 one, then several
            expected = torch.full((n, size), 99, dtype=torch.int32 if kind == 0 else torch.float32)
            found = expected.clone()
            kernels.fill(kind, expected, seed, start, stream, *parameters)
            kernels.fill_next(kind, found, state)
            start += n
            assert torch.equal(found.view(torch.int32), expected.view(torch.int32)), (n, size)
            assert tuple(state.tolist()) == kernels.words(seed, start, stream, *parameters)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_in_16_bits_they_are_rounded(dtype):
    kind, parameters = DRAWS["normal"]
    state = torch.tensor(kernels.words(7, 3, 0, *parameters), dtype=torch.int32)
    expected, found = torch.empty(3, 33), torch.full((3, 33), 99, dtype=dtype)
    kernels.fill(kind, expected, 7, 3, 0, *parameters)
    kernels.fill_next(kind, found, state)
    assert torch.equal(found, expected.to(dtype))
