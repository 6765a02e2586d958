"""What happens to a convolution's input between its load and the product: a norm, an activation.

    activation((x[n, c] - centre[n, c]) * scale[n, c] + shift[n, c])

So a norm over space whose statistics are known (`merge.py`) makes no image of its own. Padding with
zeros stays zeros: it is outside of what was normalised. The result is rounded to the input's type,
as it would be in memory, so it is the same image either way. `prologue_cost.py` says when it pays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .epilogue import ACTIVATIONS, Epilogue, activate, to_stored
from .merge import Norm, row_pitch
from .records import InputNorm


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


def record(given: Normalised | None, x: torch.Tensor) -> InputNorm | None:
    """What a kernel is told of it; x is the input [N, C_IN, H, W]."""
    if given is None:
        return None
    shift = given.shift
    found, needed = tuple(given.norm.centre.shape), tuple(x.shape[:2])
    if found != needed or (shift is not None and tuple(shift.shape)[-1:] != needed[1:]):
        raise ValueError(f"normalised: found a norm of {found}, needed one of {needed}")
    return InputNorm(given.norm.centre, given.norm.scale, shift, row_pitch(shift))


@triton.jit
def normalise_input(
    a,  # [BLOCK_PIXELS, BLOCK_K]
    inside,  # [BLOCK_PIXELS, 1 or BLOCK_K]: of the input, not of padding
    norm,  # InputNorm
    image,  # [BLOCK_PIXELS]
    first_image,
    images,
    channel,  # [BLOCK_K]
    layer: tl.constexpr,  # Layer
    how: tl.constexpr,  # Tiling
):
    """The input normalised and activated, rounded to its own type."""
    exists = (channel < layer.c_in)[None, :]
    if how.one_image:
        row = first_image.to(tl.int64)
        mask = exists
    else:
        row = image.to(tl.int64)[:, None]
        mask = (image < images)[:, None] & exists
    place = row * layer.c_in + channel[None, :]
    value = a.to(tl.float32) - tl.load(norm.centre + place, mask=mask, other=0.0)
    value *= tl.load(norm.scale + place, mask=mask, other=0.0)
    if norm.shift is not None:
        shift = norm.shift + row * norm.shift_pitch + channel[None, :]
        value += tl.load(shift, mask=mask, other=0.0)
    value = activate(value, tl.constexpr(layer.norm_activation), layer.norm_slope)
    if layer.norm_padded:
        value = tl.where(inside, value, 0.0)
    # Beyond the channels the weights may be those of the next tap.
    if layer.c_in % how.block_k != 0:
        value = tl.where(exists, value, 0.0)
    return to_stored(value, 0.0, 0.0, "nhwc", a.dtype)
