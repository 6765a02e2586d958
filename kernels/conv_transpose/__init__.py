"""Transposed 2-D convolution (ONNX ConvTranspose, dilation 1, group 1), bias and activation fused.

Its outputs fall into stride_h * stride_w phases (`kernels/phases.py`), each a dense
convolution. All of them run in one launch, in one of two forms:

- a program per phase: columns are output channels, weights are [phase][tap][c_in][c_out];
- phases in columns, for a few output channels (the image layer): columns are (phase, channel), and
  the taps are the union of all phases' taps, [tap][c_in][phase, c_out] with zeros where a phase
  does not use a tap. k4 s2 p1 with 3 channels: 9 taps and 12 columns, instead of 4 times a product
  whose 3 columns would leave the tensor cores idle.
"""

from __future__ import annotations

from typing import Any

import torch

from .. import tiles
from ..conv.launches import prepare_launches, statistics_size
from ..types import Config, Prepared
from .weight import PackedWeight, pack, pack_upsampled

__all__ = [
    "PackedWeight",
    "configs",
    "launch",
    "pack",
    "pack_upsampled",
    "prepare",
    "statistics_size",
]


def configs(
    packed: PackedWeight,
    pixels: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    precision: str = "ieee",
) -> tuple[Config, ...]:
    """The tile configurations worth trying for `pixels` pixels per phase, the default first."""
    product = tiles.Product(
        rows=pixels,
        columns=packed.columns,
        channels=packed.c_in,
        taps=packed.taps[0] * packed.taps[1],
        copies=packed.copies,
        dtype=dtype,
        precision=precision,
        # The copy engine needs strides of whole 16 bytes.
        descriptors=packed.c_in * dtype.itemsize % 16 == 0 and packed.c_in >= 16,
    )
    return tiles.configs(product, capability)


def prepare(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> Prepared:
    """See launch; the options are those of `conv.launches.prepare_launches`."""
    return prepare_launches(x, packed, bias, configs, **options)


def launch(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """activation(modulated(conv_transpose2d(x, weight)) + bias).

    Tensors and options are those of `conv.launch`, but for `normalised`.
    """
    return prepare(x, packed, bias, **options).run()
