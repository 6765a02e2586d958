"""A whole plan as one native call: csrc/direct.cpp, for generators in fp32 on a CPU.

oneDNN costs 20 to 50 microseconds a call and leaves half of the vector units idle on a single
image's layers; and each library on the way has threads of its own, which spin on the cores that the
next one needs. So a plan that is one chain of dense layers runs without any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fastgan.backends import direct_packing
from fastgan.backends.base import Executable, ImageFormat
from fastgan.plan import Plan, Step

try:
    from fastgan import _native
except ImportError:
    _native = None

#: What `Step.kernel` says of these steps.
KERNEL = "direct"

#: Steps that only name the same numbers otherwise, as long as images have one pixel.
_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}

_ACTIVATIONS = {"none", "relu", "leaky_relu", "tanh", "sigmoid"}

#: Images of up to so many channels are laid out [C, H, W], as they are wanted.
_FEW_CHANNELS = 4


def paths() -> list[str]:
    """The instruction sets that there is code for on this CPU, best first."""
    return [name for name, _ in _native.program_paths()] if hasattr(_native, "Program") else []


class DirectExecutable:
    """A plan that is one native call.

    Args:
        plan: what to run; `covers(plan)` is true.
        other: makes the executable that names a step which makes a NaN or Inf.
        path: one of `paths()`; the best one if empty.
    """

    def __init__(self, plan: Plan, other: Callable[[], Executable], path: str = "") -> None:
        steps = _layers(plan)
        assert steps is not None
        width = dict(_native.program_paths())[path or paths()[0]]
        self.plan = replace(plan, steps=tuple(replace(s, kernel=KERNEL) for s in plan.steps))
        self._other = other
        self._input, self._output = plan.inputs[0], plan.outputs[0]
        images = plan.buffers[self._input].shape[0]
        self._shape = plan.buffers[self._output].shape
        planar = len(self._shape) == 4 and self._shape[1] <= _FEW_CHANNELS
        packed = [
            direct_packing.pack(_native, step, plan, width, planar and step is steps[-1])
            for step in steps
        ]
        self._weights = [layer.tensors for layer in packed]  # the program points to them
        self._program = _native.Program(images, [layer.layer for layer in packed], path)
        self._layout = (
            torch.channels_last if len(self._shape) == 4 and not planar else torch.contiguous_format
        )

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Executable`."""
        return {self._output: self._run(inputs[self._input], None)}

    def images(
        self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """See `Executable.images`."""
        return self._run(inputs[self._input], out), None

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """See `Executable.first_nonfinite`."""
        return self._other().first_nonfinite(inputs)

    def _run(self, x: Tensor, out: Tensor | None) -> Tensor:
        """The output: `out` itself if it is such a tensor."""
        if x.dtype != torch.float32 or not x.is_contiguous():
            x = x.to(torch.float32).contiguous()
        if (
            out is None
            or out.dtype != torch.float32
            or out.shape != self._shape
            or not out.is_contiguous(memory_format=self._layout)
            or out.device.type != "cpu"
        ):
            out = torch.empty(self._shape, memory_format=self._layout)
        self._program.run(x.data_ptr(), out.data_ptr(), torch.get_num_threads())
        return out


def covers(plan: Plan) -> bool:
    """Whether there is native code for all of this plan."""
    return bool(paths()) and _layers(plan) is not None


def _layers(plan: Plan) -> list[Step] | None:
    """The plan's products in order, if it has no other steps and each reads the one before."""
    if len(plan.inputs) != 1 or len(plan.outputs) != 1:
        return None
    if any(buffer.dtype != torch.float32 for buffer in plan.buffers.values()):
        return None
    at, found = plan.inputs[0], []
    if any(size != 1 for size in plan.buffers[at].shape[2:]):
        return None  # the first layer reads it as it is: channels last, with no border
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
    return found if found and at == plan.outputs[0] and _reads_inside(found[0]) else None


def _is_layer(step: Step, shape: tuple[int, ...]) -> bool:
    if step.epilogue.activation not in _ACTIVATIONS or step.epilogue.residual:
        return False
    if step.op == "fastgan.Linear":
        return len(shape) == 2
    a = step.attributes
    return (
        step.op in ("fastgan.Conv", "fastgan.ConvTranspose")
        and {"upsample", "pad_mode", "shuffle"}.isdisjoint(a)
        and len(shape) == 4
        and a["group"] == 1
    )


def _reads_inside(step: Step) -> bool:
    """Whether a first layer reads nothing beyond the edges of its one pixel."""
    return step.op == "fastgan.Linear"
