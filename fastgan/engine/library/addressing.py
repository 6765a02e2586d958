"""A fastgan.Conv's addressing on torch's ops: what it reads and writes its images through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from fastgan.plan import Step

_ATTRIBUTES = {"upsample", "pad_mode", "shuffle", "shuffle_mode"}
_TORCH_MODES = {"reflect": "reflect", "edge": "replicate"}


def without(step: Step) -> Step:
    """The step for an input that came through `reader`, and an output that goes to `writer`."""
    attributes = {k: v for k, v in step.attributes.items() if k not in _ATTRIBUTES}
    if "pad_mode" in step.attributes:
        attributes["pads"] = [0] * len(attributes["pads"])
    return replace(step, attributes=attributes)


def reader(step: Step) -> Callable[[Tensor], Tensor]:
    """From the step's input to what the convolution itself takes."""
    upsample, mode = step.attributes.get("upsample"), step.attributes.get("pad_mode")
    pads = step.attributes["pads"]
    rank = len(pads) // 2
    # F.pad starts at the last axis.
    pairs = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[axis + rank])]

    def read(x: Tensor) -> Tensor:
        if upsample:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.pad(x, pairs, mode=_TORCH_MODES[mode]) if mode else x

    return read


def writer(step: Step) -> Callable[[Tensor], Tensor]:
    """From what the convolution itself gives to the step's output, without its residual."""
    block, mode = step.attributes.get("shuffle"), step.attributes.get("shuffle_mode")
    if not block:
        return lambda y: y
    if mode == "CRD":
        return lambda y: F.pixel_shuffle(y, block)

    def write(y: Tensor) -> Tensor:
        n, channels, height, width = y.shape
        y = y.reshape(n, block, block, channels // block**2, height, width)
        y = y.permute(0, 3, 4, 1, 5, 2)
        return y.reshape(n, channels // block**2, height * block, width * block)

    return write
