"""fastgan: a GAN/VAE inference engine. A trained generator comes in as ONNX; images come out.

import fastgan
images = fastgan.load("dcgan.onnx").generate(n=1024)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastgan.errors import (
    ArgumentError,
    BackendError,
    BudgetError,
    FastganError,
    LimitError,
    ModelFileError,
    Refusal,
    RingError,
    UnsupportedError,
)
from fastgan.host.processor import restrict as _restrict
from fastgan.limits import Limits

_restrict()  # before anything computes

if TYPE_CHECKING:
    from fastgan.exporting import export
    from fastgan.generator import Generator
    from fastgan.loading import load
    from fastgan.model.signature import Input

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "BackendError",
    "BudgetError",
    "FastganError",
    "Generator",
    "Input",
    "LimitError",
    "Limits",
    "ModelFileError",
    "Refusal",
    "RingError",
    "UnsupportedError",
    "export",
    "load",
]

# torch and onnx_ir take seconds to import, so each name's module is imported on first use.
_LAZY = {
    "Generator": "fastgan.generator",
    "Input": "fastgan.model.signature",
    "export": "fastgan.exporting",
    "load": "fastgan.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fastgan' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
