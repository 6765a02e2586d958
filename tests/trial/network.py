"""A published network, small and with random weights."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

#: The sizes of one sample of an input, after a number of classes where it holds those.
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """Where to find a network and what to make it with.

    Attributes:
        where: "package.module:Class", or a function that returns a module.
        options: its arguments.
        inputs: of each input one sample's sizes; ("class", n) for a number below n.
        method: what to call instead of the module.
        given: more arguments of that call, by name.
        seed: of its weights.
        behind: the package that it is from, where `where` is a function of ours.
    """

    where: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Any] = ((3, 32, 32),)
    method: str = "forward"
    given: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    behind: str = ""

    @property
    def package(self) -> str:
        """The package that it is from."""
        return self.behind or self.where.partition(":")[0].partition(".")[0]

    def make(self) -> nn.Module:
        """The module, in eval mode, from a fixed seed; nothing in it is zero or one throughout."""
        path, _, name = self.where.partition(":")
        torch.manual_seed(self.seed)
        made: Any = importlib.import_module(path)
        for part in name.split("."):
            made = getattr(made, part)
        module = made(**self.options).eval()
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.numel():
                parameter.requires_grad_(False)
                if float(parameter.max() - parameter.min()) == 0:
                    parameter += 0.05 * torch.randn_like(parameter)
        for norm in module.modules():
            mean, variance = (getattr(norm, f"running_{s}", None) for s in ("mean", "var"))
            if mean is not None and variance is not None:
                mean.normal_(0, 0.1)
                variance.uniform_(0.5, 1.5)
        return Call(module, self.method, self.given).eval()

    def draw(self, n: int, seed: int) -> tuple[Tensor, ...]:
        """Inputs of n samples: floats in [0, 1), classes below their number."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randint(size[1], (n,), generator=generator)
            if size[:1] == ("class",)
            else torch.rand((n, *size), generator=generator)
            for size in self.inputs
        )


class Call(nn.Module):
    """A module's method, of tensors alone: those of what it returns that are floats."""

    def __init__(self, module: nn.Module, method: str, given: Mapping[str, Any]) -> None:
        super().__init__()
        self.module, self.method, self.given = module, method, dict(given)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the network returns, flat."""
        return tuple(_floats(getattr(self.module, self.method)(*inputs, **self.given)))


def _floats(made: Any) -> list[Tensor]:
    if isinstance(made, Tensor):
        return [made] if made.is_floating_point() and made.dim() else []
    if isinstance(made, Mapping):
        made = made.values()
    elif hasattr(made, "mode") and inspect.ismethod(made.mode):  # a distribution of latents
        made = [made.mode()]
    if isinstance(made, str) or not hasattr(made, "__iter__"):
        return []
    return [tensor for part in made for tensor in _floats(part)]
