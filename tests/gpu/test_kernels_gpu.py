"""Every kernel, every case, in its default tiling and in all tilings of the main cases."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]
pytest.importorskip("triton", reason="triton is not installed")
from fastgan.kernels import e4m3  # noqa: E402
from fastgan.kernels.table import KERNELS  # noqa: E402
from fastgan.kernels.types import INTERPRETED, Config, Kernel, capability_of  # noqa: E402

CUDA = torch.device("cuda")
CASES = [
    pytest.param(kernel, case, id=f"{kernel.name}-{number}")
    for kernel in KERNELS
    for number, case in enumerate(kernel.cases)
]
MAIN = [
    pytest.param(kernel, replace(case, batch=batch), id=f"{kernel.name}-{number}-batch{batch}")
    for kernel in KERNELS
    for number, case in enumerate(kernel.main_cases)
    for batch in (1, 8)
]


def _tolerances() -> Any:
    path = Path(__file__).parents[1] / "kernels" / "tolerances.py"
    spec = importlib.util.spec_from_file_location("tolerances", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _check(kernel: Kernel, case: Any, config: Config | None) -> None:
    assert not INTERPRETED, "TRITON_INTERPRET is set: the GPU is not what would be tested"
    if e4m3.needed_by(case) and not e4m3.exists_on(capability_of(CUDA)):
        pytest.skip("this GPU has no e4m3: needs compute capability 8.9")
    seed = int(torch.randint(2**31, ()))
    inputs = kernel.inputs(case, torch.Generator(CUDA).manual_seed(seed), CUDA)
    options = {} if config is None else {"config": config}
    prepared = kernel.prepare(**inputs.launch, **options)
    prepared.out.fill_(torch.nan if prepared.out.is_floating_point() else 77)
    out = prepared.run()
    print(f"seed {seed}, {case}, {config}")
    _tolerances().assert_close(out, kernel.reference(**inputs.reference), case.dtype, case)


@pytest.mark.parametrize(("kernel", "case"), CASES)
def test_case(kernel: Kernel, case: Any) -> None:
    _check(kernel, case, None)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "case"), MAIN)
def test_every_tiling(kernel: Kernel, case: Any) -> None:
    for config in kernel.configs(case, capability_of(CUDA)):
        _check(kernel, case, config)
