"""A transposed convolution as one matrix product, and the native col2im that adds its columns up.

oneDNN's own transposed convolution leaves much of the CPU idle where an image has few pixels and
many channels, the first layers of a generator. There one product of all pixels with all taps runs
at full speed; what it costs is writing the columns and adding up those that meet in a pixel, which
`csrc/col2im.cpp` does together with bias and activation. That cost does not depend on the input
channels while the product's grows with them, so from enough of them on it pays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.engine.library.executor import BoundStep
from fastgan.engine.library.operators import activation
from fastgan.host.native import _native
from fastgan.plan import Buffer, Step
from fastgan.plan.activations import TABLE

#: Input channels from which on columns pay, measured against oneDNN for both precisions.
_CHANNELS = 256

#: Taps that may meet in one output pixel.
_MOST_TAPS = 64


def pays(step: Step, weight: Tensor) -> bool:
    """Whether this transposed convolution is one for columns, and the native part is built."""
    a = step.attributes
    (ky, kx), (sy, sx) = weight.shape[2:], a["strides"]
    return (
        hasattr(_native, "col2im")
        and weight.shape[0] >= _CHANNELS
        and a["group"] == 1
        and all(d == 1 for d in a["dilations"])
        and -(-ky // sy) * -(-kx // sx) <= _MOST_TAPS
    )


def bind(step: Step, weight: Tensor, bias: Tensor | None, x: Buffer, y: Buffer) -> BoundStep:
    """The step, with its weight [C_in, C_out, *kernel] packed for the planned batch."""
    a = step.attributes
    images, c_in, height, width = x.shape
    _, channels, ky, kx = weight.shape
    (sy, sx), (top, left) = a["strides"], a["pads"][:2]
    out_height, out_width = y.shape[2:]
    # [C_in, C_out, ky, kx] -> rows (ky, kx, C_out): a pixel's products lie tap by tap.
    rows = weight.permute(2, 3, 1, 0).reshape(-1, c_in).contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(rows, images * height * width)
    linear = torch.ops.mkldnn._linear_pointwise.default
    terms = None if bias is None else bias.float().contiguous()
    code = TABLE[step.epilogue.activation].code
    rest = activation(step.epilogue) if code is None else None
    slope, half = step.epilogue.slope, weight.dtype == torch.bfloat16
    sizes = [images, height, width, channels, ky, kx, sy, sx, top, left, out_height, out_width]
    add_up = _native.col2im

    def call(x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1).reshape(-1, c_in)
        columns = linear(pixels, packed, None, "none", [], "")
        out = torch.empty((images, out_height, out_width, channels), dtype=x.dtype)
        add_up(
            columns.data_ptr(),
            out.data_ptr(),
            0 if terms is None else terms.data_ptr(),
            half,
            code or 0,
            slope,
            sizes,
            torch.get_num_threads(),
        )
        made = out.permute(0, 3, 1, 2)
        return made if rest is None else rest(made)

    return BoundStep(step, call, (step.inputs[0],))
