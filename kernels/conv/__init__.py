"""2-D convolution (ONNX Conv, group 1) as an implicit matrix product.

Padding (zeros, reflected or repeated edges) and nearest upsampling by two before it are arithmetic
on the input's coordinates, and a pixel shuffle after it (ONNX DepthToSpace) on the output's, so
none makes a pass over memory of its own; bias, residual and activation are the epilogue's.
"""

from __future__ import annotations

from typing import Any

import torch

from .. import tiles
from ..modulation import UNMODULATED, Modulation
from ..prologue import Normalised
from ..types import Config, Prepared
from .launches import prepare_launches, statistics_size
from .weight import PackedWeight, pack

__all__ = ["PackedWeight", "configs", "launch", "pack", "prepare", "statistics_size"]


def configs(
    packed: PackedWeight,
    pixels: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    precision: str = "ieee",
) -> tuple[Config, ...]:
    """The tile configurations worth trying for `pixels` output pixels, the default first."""
    # The copy engine reads boxes of neighbours, pads with zeros, and needs strides of 16 bytes.
    plain = packed.pad_mode == "zeros" and not packed.upsample and packed.stride == (1, 1)
    aligned = packed.c_in * dtype.itemsize % 16 == 0 and packed.c_in >= 16
    product = tiles.Product(
        rows=pixels,
        columns=packed.c_out,
        channels=packed.c_in,
        taps=packed.kernel[0] * packed.kernel[1],
        dtype=dtype,
        precision=precision,
        descriptors=plain and aligned,
    )
    configs = tiles.configs(product, capability)
    if packed.shuffle > 1:
        # A split sum is finished by channel, where a bias before the shuffle is per square.
        configs = tuple(dict.fromkeys(config.with_(split_k=1) for config in configs))
    return configs


def prepare(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    *,
    modulation: Modulation = UNMODULATED,
    normalised: Normalised | None = None,
    config: Config | None = None,
    **options: Any,
) -> Prepared:
    """See launch; the other options are those of `launches.prepare_launches`."""
    packed.check_reflection(*x.shape[2:])
    if packed.shuffle > 1 and modulation != UNMODULATED:
        raise ValueError("modulation: found one with a shuffle, needed none")
    if packed.shuffle > 1 and config is not None and config.split_k > 1:
        raise ValueError("config: found split_k with a shuffle, needed split_k = 1")
    if normalised is not None and packed.scale is not None:
        raise ValueError("normalised: found one of an e4m3 input, needed none")
    options |= {"modulation": modulation, "normalised": normalised, "config": config}
    return prepare_launches(x, packed, bias, configs, **options)


def launch(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """activation(shuffle(modulated(conv2d(pad(upsample(x)), weight)) + bias) + residual).

    x [N, c_in, H, W] channels_last, in the dtype the weights were packed in; bias float32 [c_out].
    x, out and residual may be some of the channels of a wider image. Accumulates in float32.
    A result of e4m3 is float16. Options: out, residual (added to the result), slopes (of a prelu,
    float32 [c_out]), modulation, normalised (a norm of x that is yet to be applied,
    `prologue.Normalised`), statistics (float32 memory of `statistics_size` for those of the
    result; `Prepared.statistics` is where they lie in it, None where the tiling has none), x_scale
    (what a 1 of x stands for, where x is e4m3), flag, precision ("ieee", or "tf32" for float32 on
    the tensor cores), config, and the fields of `epilogue.Epilogue`.
    """
    return prepare(x, packed, bias, **options).run()
