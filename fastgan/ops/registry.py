"""The registry of ONNX operators as functions on torch tensors.

One function serves three uses: it is the reference that kernels are tested against, it computes
shapes and dtypes when its tensors are on the `meta` device, and it is the library path of a plan.

An op function takes the node's inputs by position (None where one is left out) and its attributes
by name, and returns a tensor, or a tuple of them for several outputs:

    @register("LeakyRelu", since=6)
    def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor: ...

Inputs listed in `host` are needed as plain Python values when a plan is made (the shape of a
Reshape, the pads of a Pad): they arrive as `tensor.tolist()` and may not depend on data.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

#: One module for each op family; each registers its ops when it is imported.
FAMILIES = ("activation", "convolution", "elementwise", "linear", "normalisation", "shape")


@dataclass(frozen=True, slots=True)
class Op:
    """One ONNX operator from opset version `since` on, until a later registration takes over."""

    domain: str
    name: str
    since: int
    function: Callable[..., Any]
    host: frozenset[int]
    attributes: frozenset[str]
    infer: Callable[..., Any]


_table: dict[tuple[str, str], list[Op]] = {}


def register(
    name: str,
    *,
    since: int,
    host: Iterable[int] = (),
    infer: Callable[..., Any] | None = None,
    domain: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as ONNX operator `name` from opset `since` on.

    Args:
        host: positions of the inputs that it needs as Python values.
        infer: gives its outputs' shapes and dtypes, as `meta` tensors, from the same arguments;
            the function itself on `meta` tensors if None.

    Raises:
        ValueError: if that operator is already registered for that version.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        attributes = frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        versions = _table.setdefault((domain, name), [])
        if any(op.since == since for op in versions):
            raise ValueError(f"{name} is registered twice for opset {since}")
        versions.append(
            Op(domain, name, since, function, frozenset(host), attributes, infer or function)
        )
        versions.sort(key=lambda op: op.since)
        return function

    return add


def find(domain: str, name: str, opset: int) -> Op | None:
    """The registered op for this opset version, or None where there is none."""
    load_families()
    found = None
    for op in _table.get((domain, name), ()):
        if op.since <= opset:
            found = op
    return found


def all_ops() -> list[Op]:
    """Every registered op, by domain, name and version."""
    load_families()
    return [op for key in sorted(_table) for op in _table[key]]


def load_families() -> None:
    """Import every family once, so that its ops are registered."""
    for family in FAMILIES:
        importlib.import_module(f"fastgan.ops.{family}")
