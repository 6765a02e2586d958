"""Every kernel, one row each. Tests, static reports and benchmarks iterate over KERNELS."""

from __future__ import annotations

from . import conv_cases, conv_transpose_cases, linear, normalise_cases, pointwise, to_image
from .types import Kernel

KERNELS: tuple[Kernel, ...] = (
    conv_cases.KERNEL,
    conv_transpose_cases.KERNEL,
    linear.KERNEL,
    normalise_cases.KERNEL,
    pointwise.KERNEL,
    to_image.KERNEL,
)
