"""Every kernel, one row each. Tests, static reports and benchmarks iterate over KERNELS."""

from __future__ import annotations

import sys
from types import ModuleType

from .conv import cases as conv
from .conv_transpose import cases as conv_transpose
from .depthwise import cases as depthwise
from .linear import cases as linear
from .normalise import cases as normalise
from .pointwise import cases as pointwise
from .to_image import cases as to_image
from .types import Kernel


def _row(cases: ModuleType, *, multiplies: bool = False) -> Kernel:
    """The kernel of a folder: what runs it, and its cases."""
    folder = cases.__name__.rpartition(".")[0]
    runs = sys.modules[folder]
    return Kernel(
        name=folder.rpartition(".")[2],
        accepts=cases.accepts,
        prepare=runs.prepare,
        launch=runs.launch,
        reference=cases.reference,
        inputs=cases.inputs,
        cases=cases.CASES,
        configs=cases.case_configs,
        main_cases=cases.MAIN_CASES,
        multiplies=multiplies,
    )


KERNELS: tuple[Kernel, ...] = (
    _row(conv, multiplies=True),
    _row(conv_transpose, multiplies=True),
    _row(depthwise),
    _row(linear, multiplies=True),
    _row(normalise),
    _row(pointwise),
    _row(to_image),
)
BY_NAME = {kernel.name: kernel for kernel in KERNELS}
