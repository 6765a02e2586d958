"""What a plan is made of: steps over buffers, for one set of input shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What happens to a product before it is stored: `activation(product + bias + residual)`.

    Fusions add to it; there is never a class per combination.

    Attributes:
        activation: a name of `activations.TABLE`, such as "relu", "leaky_relu", "tanh".
        parameters: the numbers of that curve, as its row has them.
        slopes: of a "prelu", one for each channel; otherwise none.
        bias: whether a bias is added.
        residual: whether another tensor of the output's shape is added before the activation.
    """

    activation: str = "none"
    parameters: tuple[float, ...] = ()
    slopes: tuple[float, ...] = ()
    bias: bool = False
    residual: bool = False

    @property
    def slope(self) -> float:
        """The first parameter: the slope of a LeakyReLU, or the alpha of an ELU; 0 for none."""
        return self.parameters[0] if self.parameters else 0.0

    def __str__(self) -> str:
        slope = f"({self.slope:g})" if self.activation == "leaky_relu" else ""
        parts = [
            "bias" if self.bias else "",
            "residual" if self.residual else "",
            "" if self.activation == "none" else self.activation + slope,
        ]
        return " + ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation of a `fastgan.Pointwise` on its running value.

    The operand is input number `tensor` if that is not negative, else the value in place `kept` if
    that is not negative, else `number`. "load" takes the operand as the value; rsub and rdiv have
    the operand first; `keep` is the place, if not negative, that the result is kept in.
    """

    operation: str
    number: float = 0.0
    tensor: int = -1
    kept: int = -1
    keep: int = -1


@dataclass(frozen=True, slots=True)
class Buffer:
    """One tensor of a plan: its logical shape is ONNX's, whatever its layout in memory."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return int(torch.Size(self.shape).numel()) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Step:
    """One launch.

    Attributes:
        op: the operator with its domain, such as "fastgan.ConvTranspose" or "Add".
        inputs: names of buffers and weights by position; "" where an optional input is left out.
        outputs: names of the buffers it writes.
        attributes: of the operator, as Python values.
        epilogue: what is fused behind it.
        origin: the names of the ONNX nodes that went into it.
        flops: floating-point operations, a multiply and an add counting as two.
        bytes: the fewest bytes it must move: each input read once, each output written once.
        workspace: the bytes that it takes beside its outputs, while it runs.
        kernel: what runs it; "library" is the torch op.
        note: why no better kernel was taken; may be empty.
        releases: buffers that no later step reads.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    epilogue: Epilogue = Epilogue()
    origin: tuple[str, ...] = ()
    flops: int = 0
    bytes: int = 0
    workspace: int = 0
    kernel: str = "library"
    note: str = ""
    releases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A static graph as a list of steps.

    Attributes:
        inputs, outputs: names of buffers.
        steps: in the order in which they run.
        buffers: every tensor that depends on data, by name.
        weights: every constant that a step reads, by name, on the CPU in the model's own dtype;
            those of `Weights` may be read only when they are asked for.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    weights: Mapping[str, Tensor]

    @property
    def flops(self) -> int:
        """Floating-point operations of one run."""
        return sum(step.flops for step in self.steps)

    @property
    def bytes(self) -> int:
        """The fewest bytes of one run, step by step."""
        return sum(step.bytes for step in self.steps)

    @property
    def memory_bytes(self) -> int:
        """The most that one run holds at once, if each tensor goes after its last use.

        In the types that the plan was made in.
        """
        held = most = sum(self.buffers[name].bytes for name in self.inputs)
        for step in self.steps:
            held += sum(self.buffers[name].bytes for name in step.outputs)
            most = max(most, held + step.workspace)
            held -= sum(self.buffers[name].bytes for name in step.releases)
        return most

    @property
    def peak_bytes(self) -> int:
        """The largest sum of a step's own inputs and outputs: what a cache should hold."""
        return max(
            (
                sum(self.buffers[n].bytes for n in (*s.inputs, *s.outputs) if n in self.buffers)
                for s in self.steps
            ),
            default=0,
        )
