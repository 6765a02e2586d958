"""Scales of samples, and noise, around a convolution that a library runs without them, on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import BoundStep, place
from fastgan.host.native import _native
from fastgan.plan import Buffer, Epilogue, Step
from fastgan.plan.activations import TABLE


def is_modulated(step: Step, buffers: Mapping[str, Buffer]) -> bool:
    """Whether a product has scales, or a residual other than a buffer of its result's shape."""
    if any(step.inputs[4:6]):
        return True
    if not step.epilogue.residual:
        return False
    residual = buffers.get(step.inputs[3])
    return residual is None or residual.shape != buffers[step.outputs[0]].shape


def product_of(step: Step) -> Step:
    """The same step without scales and all that follows the product."""
    return replace(step, inputs=step.inputs[:2], epilogue=Epilogue())


def bind(
    step: Step, product: Callable[..., Any], weights: Mapping[str, Tensor], dtype: torch.dtype
) -> BoundStep:
    """The step around its product, whose result must be memory of its own: it is written to."""
    cpu = torch.device("cpu")
    bias = place(weights[step.inputs[2]], cpu, dtype) if step.epilogue.bias else None
    finish = _Pass(bias, step.epilogue)
    scale = _Pass(None, Epilogue())

    def call(
        x: Tensor, residual: Tensor | None, scale_in: Tensor | None, scale_out: Tensor | None
    ) -> Tensor:
        if scale_in is None:
            return finish(product(x), scale_out, residual)
        with _scratch(x) as room:
            y = product(scale(x, scale_in, None, out=room))
        return finish(y, scale_out, residual)

    reads, bind_constants = library.operands(step, weights, cpu, dtype)
    return BoundStep(step, bind_constants(call), reads)


@contextlib.contextmanager
def _scratch(like: Tensor) -> Iterator[Tensor]:
    """Room for a tensor that nobody needs afterwards.

    Memory new from the system is cleared page by page, which takes ten times as long as the pass
    that fills it. So the room is kept, unless another thread has it, or it is very large.
    """
    size = like.numel() * like.element_size()
    try:
        flat = _spare.pop()
    except IndexError:
        flat = torch.empty(size, dtype=torch.uint8)
    if flat.numel() < size:
        flat = torch.empty(size, dtype=torch.uint8)
    layout = like if _is_dense(like) else like.contiguous()
    yield flat[:size].view(like.dtype).as_strided(layout.shape, layout.stride())
    if flat.numel() <= _MOST_KEPT and not _spare:
        _spare.append(flat)


_spare: list[Tensor] = []
#: Bytes of the room that is kept.
_MOST_KEPT = 256 << 20


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or (
        x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Pass:
    """activation(x * scale + residual + bias), in one pass over memory where the native part can.

    Args:
        bias: [C], or None.
        epilogue: whose activation follows.
    """

    def __init__(self, bias: Tensor | None, epilogue: Epilogue) -> None:
        self._row = None if bias is None else bias.float().contiguous()
        self._bias = bias
        self._act = library.activation(epilogue)
        self._code = TABLE[epilogue.activation].code
        self._slope = epilogue.slope

    def __call__(
        self, x: Tensor, scale: Tensor | None, residual: Tensor | None, out: Tensor | None = None
    ) -> Tensor:
        """The result in `out`, of x's shape; in place if None."""
        one_map = residual is None or residual.shape[1] == 1 < x.shape[1]
        dense = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        if self._code is None or not (one_map and dense) or not hasattr(_native, "modulate"):
            return self._apart(x, scale, residual, out)
        images, channels, height, width = x.shape
        out = x if out is None else out
        rows = None if scale is None else scale.reshape(-1, channels).float().contiguous()
        noise = None if residual is None else residual.reshape(-1, height * width)
        noise = None if noise is None else noise.float().contiguous()
        given = [0 if t is None else t.data_ptr() for t in (rows, noise, self._row)]
        counts = [1 if t is None else t.shape[0] for t in (rows, noise)]
        _native.modulate(
            x.data_ptr(),
            out.data_ptr(),
            *given,
            x.dtype == torch.bfloat16,
            self._code,
            self._slope,
            [images, height * width, channels, *counts],
            torch.get_num_threads(),
        )
        return out

    def _apart(
        self, x: Tensor, scale: Tensor | None, residual: Tensor | None, out: Tensor | None = None
    ) -> Tensor:
        if scale is not None:
            x = torch.mul(x, scale, out=x if out is None else out)
        if residual is not None:
            x += residual
        if self._bias is not None:
            x += self._bias.reshape(-1, *[1] * (x.dim() - 2))
        return x if self._act is None else self._act(x)
