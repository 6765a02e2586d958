"""A whole plan as one native call, in fp32 or bf16 on a CPU: csrc/direct/direct.h.

A library costs 20 to 50 microseconds a call and leaves half of the vector units idle on a single
image's layers; and each on the way has threads of its own, which spin on the cores that the
next one needs. So a plan that is one chain of dense layers runs without any of them. That is how
bf16 runs; in fp32 a graph (`graph.py`), which has Winograd's filtering too, has become the faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.base import Executable
from fastgan.engine.launches import WHOLE, Launches
from fastgan.engine.native import packing
from fastgan.engine.native.packing import Path
from fastgan.engine.prepared import Bound
from fastgan.host.native import _native
from fastgan.images.format import ImageFormat
from fastgan.model.signature import Range
from fastgan.ops.registry import names
from fastgan.plan import Plan, Step
from fastgan.plan.activations import TABLE

#: What `Step.kernel` says of these steps.
KERNEL = "direct"

#: Steps that only name the same numbers otherwise, as long as images have one pixel.
_VIEWS = names("view")

#: What lies between the layers of all images is kept whole, so it is to be small: beyond that a
#: graph, whose arena tensors share, uses less memory.
_MOST_BYTES = 64 << 20

#: Images of up to so many channels are laid out [C, H, W], as they are wanted.
_FEW_CHANNELS = 4


def paths(dtype: torch.dtype) -> list[Path]:
    """The instruction sets that there is code for here, computing in this type; best first."""
    if not hasattr(_native, "Program"):
        return []
    found = [Path(*row) for row in _native.program_paths()]
    return [path for path in found if path.dtype == dtype]


class DirectExecutable(Executable):
    """A plan that is one native call.

    Args:
        plan: what to run; `covers(plan, path.dtype)` is true.
        path: one of `paths()`.
        other: makes the executable that names a step which makes a NaN or Inf.
    """

    records = False

    def __init__(self, plan: Plan, path: Path, other: Callable[[], Executable]) -> None:
        steps = _layers(plan)
        assert steps is not None
        self.plan = replace(plan, steps=tuple(replace(s, kernel=KERNEL) for s in plan.steps))
        self._other = other
        self._launches = Launches(self.plan, torch.device("cpu"))
        self._input, self._output = plan.inputs[0], plan.outputs[0]
        images = plan.buffers[self._input].shape[0]
        self._shape = plan.buffers[self._output].shape
        planar = len(self._shape) == 4 and self._shape[1] <= _FEW_CHANNELS
        layers = [_layer(step, plan, path, planar and step is steps[-1]) for step in steps]
        self._program = _native.Program(images, layers, path.name)
        self._layout = (
            torch.channels_last if len(self._shape) == 4 and not planar else torch.contiguous_format
        )

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Executable`."""
        return {self._output: self._run(inputs, None, None)[0]}

    def images(
        self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Executable.images`."""
        to_bytes = image.format == "uint8" and len(self._shape) == 4
        images, nonfinite = self._run(inputs, out, image.range if to_bytes else None)
        return images, torch.tensor(True) if nonfinite else None

    def bound(self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor) -> Bound:
        """See `Executable.bound`: one native call."""
        x = inputs[self._input]
        to_bytes = image.format == "uint8" and len(self._shape) == 4
        layout = torch.contiguous_format if to_bytes else self._layout
        watched = super().bound(inputs, image, out)
        fits = out.dtype == (torch.uint8 if to_bytes else torch.float32) and image.asked is image
        fits = fits and x.dtype == torch.float32 and x.is_contiguous()
        if not fits or not out.is_contiguous(memory_format=layout):
            return watched
        run, threads, looks = self._program.run, torch.get_num_threads, self._launches
        low, high = image.range if to_bytes else (0.0, 255.0)
        where = (x.data_ptr(), out.data_ptr(), to_bytes, low, 255.0 / (high - low))

        def call() -> Tensor | bool | None:
            return watched() if looks else bool(run(*where, threads()))

        return call

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """See `Executable.first_nonfinite`."""
        return self._other().first_nonfinite(inputs)

    def _run(
        self, inputs: Mapping[str, Tensor], out: Tensor | None, range: Range | None
    ) -> tuple[Tensor, bool]:
        """The output, in `out` if that is such a tensor; in bf16, whether it has NaN or Inf.

        range: makes it uint8 NHWC: the values that become 0 and 255.
        """
        x = inputs[self._input]
        if x.dtype != torch.float32 or not x.is_contiguous():
            x = x.to(torch.float32).contiguous()
        low, high = range or (0.0, 255.0)
        shape, dtype, layout = self._shape, torch.float32, self._layout
        if range is not None:
            n, c, h, w = shape
            shape, dtype, layout = (n, h, w, c), torch.uint8, torch.contiguous_format
        if (
            out is None
            or out.dtype != dtype
            or out.shape != shape
            or not out.is_contiguous(memory_format=layout)
            or out.device.type != "cpu"
        ):
            out = torch.empty(shape, dtype=dtype, memory_format=layout)
        scale = 255.0 / (high - low)  # as fastgan/images/pixels.py has it
        threads = torch.get_num_threads()
        arguments = (x.data_ptr(), out.data_ptr(), range is not None, low, scale, threads)
        nonfinite: bool
        if self._launches:
            nonfinite = self._launches.call(WHOLE, self._program.run, *arguments)
        else:
            nonfinite = self._program.run(*arguments)
        return out, nonfinite


def _layer(step: Step, plan: Plan, path: Path, planar: bool) -> Any:
    """A `_native.Layer`, which writes [C, H, W] where it is `planar` instead of [H, W, C]."""
    shape, out = plan.buffers[step.inputs[0]].shape, plan.buffers[step.outputs[0]].shape
    return _native.Layer(
        packing.product(step, plan, shape, out).native(_native),
        path.name,
        planar=planar,
        after=getattr(_native.After, step.epilogue.activation),
        slope=step.epilogue.slope,
        threads=torch.get_num_threads(),
    )


def covers(plan: Plan, dtype: torch.dtype) -> bool:
    """Whether there is native code for all of this plan, computing in this type."""
    return bool(paths(dtype)) and is_chain(plan)


def is_chain(plan: Plan, *, any_size: bool = False) -> bool:
    """Whether a plan is one chain of layers, and small unless it may be of `any_size`."""
    small = sum(buffer.bytes for buffer in plan.buffers.values()) <= _MOST_BYTES
    return (any_size or small) and _layers(plan) is not None


def _layers(plan: Plan) -> list[Step] | None:
    """The plan's products in order, if it has no other steps and each reads the one before."""
    if len(plan.inputs) != 1 or len(plan.outputs) != 1:
        return None
    if any(buffer.dtype != torch.float32 for buffer in plan.buffers.values()):
        return None
    at, found = plan.inputs[0], []
    for step in plan.steps:
        read = [name for name in step.inputs if name in plan.buffers]
        if read != [at] or step.inputs[0] != at or len(step.outputs) != 1:
            return None
        before, at = plan.buffers[at].shape, step.outputs[0]
        after = plan.buffers[at].shape
        if step.op in _VIEWS:
            if before[:2] != after[:2] or any(size != 1 for size in (*before[2:], *after[2:])):
                return None
        elif _is_layer(step, before):
            found.append(step)
        else:
            return None
    return found if found and at == plan.outputs[0] else None


def _is_layer(step: Step, shape: tuple[int, ...]) -> bool:
    if not TABLE[step.epilogue.activation].native or step.epilogue.residual:
        return False
    if step.op == "fastgan.Linear":
        return len(shape) == 2
    a = step.attributes
    return (
        step.op in ("fastgan.Conv", "fastgan.ConvTranspose")
        and "pad_mode" not in a
        and len(shape) == 4
        and a["group"] == 1
    )
