"""Every kernel, one row each. Tests, static reports and benchmarks iterate over KERNELS."""

from __future__ import annotations

from .conv import cases as conv
from .conv_transpose import cases as conv_transpose
from .depthwise import cases as depthwise
from .linear import cases as linear
from .normalise import cases as normalise
from .pointwise import cases as pointwise
from .to_image import cases as to_image
from .types import Kernel

KERNELS: tuple[Kernel, ...] = (
    conv.KERNEL,
    conv_transpose.KERNEL,
    depthwise.KERNEL,
    linear.KERNEL,
    normalise.KERNEL,
    pointwise.KERNEL,
    to_image.KERNEL,
)
