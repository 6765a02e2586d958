"""What happens to a convolution's input between its load and the product: a norm, an activation.

    activation((x[n, c] - centre[n, c]) * scale[n, c] + shift[n, c])

So a norm over space whose statistics are known (`merge.py`) makes no image of its own. Padding with
zeros stays zeros: it is outside of what was normalised. The result is rounded to the input's type,
as it would be in memory, so it is the same image either way. `prologue_cost.py` says when it pays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from .epilogue import ACTIVATIONS, Epilogue, activate, to_stored
from .merge import Norm, row_pitch


@dataclass(frozen=True)
class Normalised:
    """A norm of the input and the activation behind it.

    Attributes:
        norm: of N images of C_IN channels.
        shift: [C_IN], or [N, C_IN] with any step from row to row, or None.
        activation, slope: see `epilogue.Epilogue`; any but a prelu.
    """

    norm: Norm
    shift: torch.Tensor | None = None
    activation: str = "none"
    slope: float = 0.0

    def __post_init__(self) -> None:
        if not accepts(self.activation):
            raise ValueError(f"normalised: found activation {self.activation}, needed another one")

    def reference_input(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, C, H, W] normalised and rounded to its own type."""
        centre, scale = self.norm.centre.double(), self.norm.scale.double()
        value = (x.double() - centre[:, :, None, None]) * scale[:, :, None, None]
        if self.shift is not None:
            value = value + self.shift.double().view(-1, x.shape[1], 1, 1)
        return Epilogue(self.activation, self.slope).reference(value, None, x.dtype)


def accepts(activation: str) -> bool:
    """Whether an input may have this activation."""
    return activation in ACTIVATIONS and activation != "prelu"


def arguments(given: Normalised | None, like: torch.Tensor, padded: bool) -> dict[str, Any]:
    """A kernel's arguments. `like`, which is the input [N, C_IN, H, W], stands for absent pointers.

    padded: whether zeros are read around the input.
    """
    shift = None
    if given is not None:
        shift = given.shift
        found, needed = tuple(given.norm.centre.shape), tuple(like.shape[:2])
        if found != needed or (shift is not None and tuple(shift.shape)[-1:] != needed[1:]):
            raise ValueError(f"normalised: found a norm of {found}, needed one of {needed}")
    return {
        "norm_centre": like if given is None else given.norm.centre,
        "norm_scale": like if given is None else given.norm.scale,
        "norm_shift": like if shift is None else shift,
        "norm_shift_pitch": row_pitch(shift),
        "HAS_NORM": given is not None,
        "HAS_NORM_SHIFT": shift is not None,
        "NORM_PADDED": padded,
        "NORM_ACTIVATION": "none" if given is None else given.activation,
        "NORM_SLOPE": 0.0 if given is None else given.slope,
    }


@triton.jit
def normalise_input(
    a,  # [BLOCK_PIXELS, BLOCK_K]
    inside,  # [BLOCK_PIXELS, 1 or BLOCK_K]: of the input, not of padding
    centre,
    scale,
    shift,
    shift_pitch,
    image,  # [BLOCK_PIXELS]
    first_image,
    images,
    channel,  # [BLOCK_K]
    C_IN: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ONE_IMAGE: tl.constexpr,  # all pixels are of first_image
    HAS_SHIFT: tl.constexpr,
    PADDED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """The input normalised and activated, rounded to its own type."""
    exists = (channel < C_IN)[None, :]
    if ONE_IMAGE:
        row = first_image.to(tl.int64)
        mask = exists
    else:
        row = image.to(tl.int64)[:, None]
        mask = (image < images)[:, None] & exists
    place = row * C_IN + channel[None, :]
    value = a.to(tl.float32) - tl.load(centre + place, mask=mask, other=0.0)
    value *= tl.load(scale + place, mask=mask, other=0.0)
    if HAS_SHIFT:
        value += tl.load(shift + row * shift_pitch + channel[None, :], mask=mask, other=0.0)
    value = activate(value, ACTIVATION, SLOPE)
    if PADDED:
        value = tl.where(inside, value, 0.0)
    # Beyond the channels the weights may be those of the next tap.
    if C_IN % BLOCK_K != 0:
        value = tl.where(exists, value, 0.0)
    return to_stored(value, 0.0, 0.0, "nhwc", a.dtype, INTERPRETED)
