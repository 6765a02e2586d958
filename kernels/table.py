"""Every kernel, one row each. Tests, static reports and benchmarks iterate over KERNELS."""

from __future__ import annotations

from . import (
    conv_cases,
    conv_transpose_cases,
    depthwise_cases,
    linear_cases,
    normalise_cases,
    pointwise_cases,
    to_image,
)
from .types import Kernel

KERNELS: tuple[Kernel, ...] = (
    conv_cases.KERNEL,
    conv_transpose_cases.KERNEL,
    depthwise_cases.KERNEL,
    linear_cases.KERNEL,
    normalise_cases.KERNEL,
    pointwise_cases.KERNEL,
    to_image.KERNEL,
)
