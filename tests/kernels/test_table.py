"""Every kernel, every case, against its own reference in float64."""

import importlib
import inspect
import pkgutil

import pytest

import fastgan.kernels
from fastgan.kernels import e4m3
from fastgan.kernels.table import KERNELS
from fastgan.kernels.types import capability_of
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

CASES = [
    pytest.param(kernel, case, id=f"{kernel.name}-{number}")
    for kernel in KERNELS
    for number, case in enumerate(kernel.cases)
]


@pytest.mark.parametrize(("kernel", "case"), CASES)
def test_case(kernel, case, device):
    print(case)
    assert kernel.accepts(case) is None
    if e4m3.needed_by(case) and not e4m3.exists_on(capability_of(device)):
        pytest.skip("this GPU has no e4m3: needs compute capability 8.9")
    inputs = kernel.inputs(case, new_generator(device), device)
    prepared = kernel.prepare(**inputs.launch)
    poison(prepared.out)
    out = prepared.run()
    assert out is prepared.out
    assert_close(out, kernel.reference(**inputs.reference), case.dtype, case)


def jit_functions():
    for found in pkgutil.walk_packages(fastgan.kernels.__path__, "fastgan.kernels."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if type(value).__name__ in ("JITFunction", "InterpretedFunction"):
                yield f"{value.fn.__module__}.{name}", value.fn


def test_no_kernel_takes_more_than_twelve_arguments():
    found = {name: len(inspect.signature(fn).parameters) for name, fn in jit_functions()}
    assert len(found) > 20
    assert {name: count for name, count in found.items() if count > 12} == {}


def test_names_are_unique():
    names = [kernel.name for kernel in KERNELS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_configs_accept_every_case(kernel):
    for case in [*kernel.cases, *kernel.main_cases]:
        assert kernel.configs(case, (9, 0))
