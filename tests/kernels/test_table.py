"""Every kernel, every case, against its own reference on fresh random inputs."""

import secrets

import pytest
import torch
from fastgan.kernels.table import KERNELS
from tolerances import assert_close

CASES = [
    pytest.param(kernel, case, id=f"{kernel.name}-{number}")
    for kernel in KERNELS
    for number, case in enumerate(kernel.cases)
]


@pytest.mark.parametrize(("kernel", "case"), CASES)
def test_case(kernel, case, device):
    assert kernel.accepts(case) is None
    seed = secrets.randbits(32)
    print(f"{case}, seed {seed}")
    generator = torch.Generator(device).manual_seed(seed)
    inputs = kernel.inputs(case, generator, device)
    prepared = kernel.prepare(**inputs.launch)
    poison(prepared.out)
    out = prepared.run()
    assert out is prepared.out
    expected = kernel.reference(**inputs.reference)
    assert_close(out, expected, case.dtype, case)


def poison(out: torch.Tensor) -> None:
    out.fill_(float("nan") if out.is_floating_point() else 77)
