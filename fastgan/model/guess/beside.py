"""What seem to be scalars and classes beside a latent or an image: told by the inputs together.

One input alone does not say it: [n, 1] is a latent of one number in a graph of its own, and a
strength beside an image; StyleGAN's one-hot classes are called "c", as are InfoGAN's codes, which
stand for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import onnx_ir as ir

from fastgan.model.signature import FLOATS, INTEGERS, TRUNCATIONS, Input

#: Integers of these names are no classes, though they have a class's shape.
_NUMBERS = (
    *("t", "w", "timestep", "timesteps", "time", "step", "sigma", "gamma", "alpha", "scale"),
    *("noise_level", "strength", "fidelity", "weight", "ratio", "factor", "level", "cutoff"),
    *("truncation_cutoff", "psi"),
)
_TYPES = (*FLOATS, *INTEGERS, "bool", "uint8", "int16", "int8")


def settle(inputs: tuple[Input, ...], values: Sequence[ir.Value]) -> tuple[Input, ...]:
    """The guessed inputs, with scalars, one-hot classes and empty ones told from the others."""
    return tuple(
        _settled(port, value, [other for other in inputs if other is not port])
        for port, value in zip(inputs, values, strict=True)
    )


def _settled(port: Input, value: ir.Value, others: list[Input]) -> Input:
    plain = Input(port.name, "tensor", port.shape, port.dtype, guessed=True)
    if port.is_empty:
        return plain
    if value.shape is not None and _is_scalar(port, others):
        truncates = port.name.lower() in TRUNCATIONS
        return replace(plain, kind="scalar", default=1.0 if truncates else None)
    if _is_one_hot(port, others):
        return replace(plain, kind="label", classes=port.sample_shape[0])
    return port


def _is_scalar(port: Input, others: list[Input]) -> bool:
    """Whether it is one number, or one for each sample, beside a latent or an image."""
    if port.dtype not in _TYPES or port.kind in ("image", "mask", "noise"):
        return False
    if not port.shape:
        return True
    if any(size != 1 for size in port.shape[1:]):
        return False
    rows = port.shape[0]
    batches = (1, *(other.shape[0] for other in others if other.shape))
    if len(port.shape) == 1 and isinstance(rows, int) and rows not in batches:
        return False  # a vector
    if port.kind == "label":
        return port.classes is None and port.name.lower() in _NUMBERS
    return any(_is_wide(other) for other in others)


def _is_one_hot(port: Input, others: list[Input]) -> bool:
    """Whether it is StyleGAN's `c`: a one-hot class [n, k] beside a latent."""
    latents = [other for other in others if other.kind == "latent" and _is_wide(other)]
    widths = port.shape[1:]
    one_hot = port.kind == "latent" and len(widths) == 1 and prod(port.sample_shape) > 1
    return port.name.lower() == "c" and one_hot and bool(latents)


def _is_wide(port: Input) -> bool:
    """Whether it is an image, or of more than one number a sample, or of an open size."""
    return port.kind == "image" or any(size != 1 for size in port.shape[1:])
