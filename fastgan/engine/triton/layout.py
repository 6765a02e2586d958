"""Where the buffers of a plan lie: in the workspace's one block, as its steps take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgan.engine import arena
from fastgan.engine.base import Target
from fastgan.engine.library.executor import BoundStep
from fastgan.engine.triton import concat
from fastgan.engine.triton.binding import Binding, channels_last
from fastgan.engine.triton.norms import SharedNorms
from fastgan.engine.triton.workspace import Workspace
from fastgan.kernels.e4m3 import E4M3
from fastgan.ops.registry import names
from fastgan.plan import Plan, Step

#: Library ops whose result is always memory of its own; any other may return a view of its input.
_FRESH = names("fresh") | {
    *("fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose", "fastgan.Normalise"),
    "fastgan.Activate",
}


class Layout:
    """Buffers that live at different times share a place.

    Args:
        plan, steps, target: as a `Program` takes them.
        norms: whose statistics lie here too.
        workspace: has the memory.

    Attributes:
        lifetimes, offsets: of the buffers, in bytes.
        memory, bytes: their block, and its size.
    """

    def __init__(
        self,
        plan: Plan,
        steps: Sequence[Binding | BoundStep],
        norms: SharedNorms,
        target: Target,
        workspace: Workspace,
    ) -> None:
        self._plan, self._target = plan, target
        bindings = {b.step.outputs: b for b in steps if isinstance(b, Binding)}
        self._eight = {out[0] for out, b in bindings.items() if b.output_high is not None}
        # A norm that another step applies makes no image: whoever reads that reads its input.
        aliases = {steps[norm].step.outputs for norm in norms.applied_by}
        own = [name for outputs in bindings if outputs not in aliases for name in outputs]
        self._homes = concat.homes(plan, steps)
        sizes = {name: self._bytes(name) for name in (*plan.inputs, *own)}

        def may_alias(step: Step) -> bool:
            return step.outputs in aliases or (
                step.outputs not in bindings and step.op not in _FRESH
            )

        lives = arena.lifetimes(plan, sizes, may_alias)
        together = arena.joined(lives, {name: home.root for name, home in self._homes.items()})
        self.lifetimes = [*together, *norms.lifetimes]
        self.offsets, self.bytes = arena.place(self.lifetimes)
        self.memory = workspace.memory(self.bytes)
        norms.place(self.offsets, self.memory)

    def dtype(self, name: str) -> torch.dtype:
        """The type that a buffer has here: the computing precision for floating-point ones."""
        if name in self._eight:
            return E4M3
        planned = self._plan.buffers[name].dtype
        return self._target.dtype if planned.is_floating_point else planned

    def _bytes(self, name: str) -> int:
        size = torch.Size(self._plan.buffers[name].shape).numel()
        return size * self.dtype(name).itemsize

    def place(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A buffer in its place: channels last if it has four axes, else contiguous."""
        home = self._homes.get(name)
        if home is not None:
            whole = self.place(home.root, home.shape)
            return whole[:, home.channel : home.channel + shape[1]]
        begin = self.offsets[name]
        flat = self.memory[begin : begin + self._bytes(name)].view(self.dtype(name))
        if len(shape) == 4:
            return flat.as_strided(shape, channels_last(shape))
        return flat.view(shape)
