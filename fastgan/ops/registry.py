"""The registry of ONNX operators as functions on torch tensors.

One function serves two uses: it is the reference that kernels are tested against, and it is the
library path of a plan. Beside it, `infer` tells the shapes and dtypes of its outputs.

An op function takes the node's inputs by position (None where one is left out) and its attributes
by name, and returns a tensor, or a tuple of them for several outputs:

    @register("LeakyRelu", since=6)
    def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor: ...

An attribute `num_outputs` is how many outputs the node uses; one named like a Python keyword ends
in an underscore. Inputs listed in `host` are needed as plain Python values when a plan is made
(the shape of a Reshape, the pads of a Pad): they arrive as `tensor.tolist()` and may not depend on
data.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

#: One module for each op family; each registers its ops when it is imported.
FAMILIES = (
    "activation",
    "attention",
    "convolution",
    "elementwise",
    "indexing",
    "linear",
    "normalisation",
    "padding",
    "pooling",
    "quantisation",
    "random",
    "recurrent",
    "reduction",
    "resize",
    "sampling",
    "selection",
    "shape",
    "spectral",
)


@dataclass(frozen=True, slots=True)
class Op:
    """One ONNX operator from opset version `since` on, until a later registration takes over.

    Attributes:
        function: the op on tensors.
        host: positions of the inputs that it takes as Python values.
        attributes: names of the attributes that it knows.
        infer: its outputs' shapes and dtypes as `meta` tensors, from the same arguments. Where it
            returns an input itself, the node passes that input on unchanged.
        dynamic: the shape of its output depends on the data of its inputs, so that it can only be
            evaluated on constants.
        random: it draws numbers, so that it is never evaluated when a plan is made.
        unsigned: it takes uint16, uint32 and uint64 as well, in which torch computes little.
        elementwise: each element of the output is made of those at its place in the inputs, which
            broadcast as NumPy's do.
        view: the output has the elements of the first input in the same order, and is perhaps
            nothing but another name for them.
        strided: it is a view too, or one of torch's own: other strides, or a part.
        fresh: the output is always memory of its own, never an input or a view of one.
        arity: how many inputs it needs, apart from those that may be left out; 0 where it takes any
            number. An elementwise op of arity 1 is a curve, whatever bounds it has.
    """

    domain: str
    name: str
    since: int
    function: Callable[..., Any]
    host: frozenset[int]
    attributes: frozenset[str]
    infer: Callable[..., Any]
    dynamic: bool = False
    random: bool = False
    unsigned: bool = False
    elementwise: bool = False
    view: bool = False
    strided: bool = False
    fresh: bool = False
    arity: int = 0


_table: dict[tuple[str, str], list[Op]] = {}


def register(
    name: str,
    *,
    since: int,
    host: Iterable[int] = (),
    infer: Callable[..., Any] | None = None,
    dynamic: bool = False,
    random: bool = False,
    unsigned: bool = False,
    elementwise: bool = False,
    view: bool = False,
    strided: bool = False,
    fresh: bool = False,
    also: Iterable[str] = (),
    domain: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as ONNX operator `name` from opset `since` on.

    Args:
        name, since, host, dynamic, random, unsigned, elementwise, view, strided, fresh, domain: see
            `Op`.
        infer: see `Op`; the function itself on `meta` tensors if None.
        also: attributes beside the function's keyword parameters, which it takes as `**`: those
            that a family shares.

    Raises:
        ValueError: if that operator is already registered for that version.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        needed = [p for p in parameters if p.kind not in named and p.default is p.empty]
        several = any(p.kind is p.VAR_POSITIONAL for p in needed)
        attributes = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}.union(also)
        versions = _table.setdefault((domain, name), [])
        if any(op.since == since for op in versions):
            raise ValueError(f"{name} is registered twice for opset {since}")
        rule = infer or function
        versions.append(
            Op(
                domain,
                name,
                since,
                function,
                frozenset(host),
                frozenset(attributes),
                rule,
                dynamic,
                random,
                unsigned,
                elementwise,
                view,
                strided or view,
                fresh,
                0 if several else len(needed),
            )
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


@functools.cache
def names(trait: str) -> frozenset[str]:
    """ONNX's operators of which every version has this trait, such as "view"."""
    plain = [op for op in all_ops() if not op.domain]
    return frozenset(op.name for op in plain) - {op.name for op in plain if not getattr(op, trait)}


@functools.cache
def load_families() -> None:
    """Import every family once, so that its ops are registered."""
    for family in FAMILIES:
        importlib.import_module(f"fastgan.ops.{family}")


def holds(model: ir.Model, names: Container[str]) -> bool:
    """Whether the graph, or a subgraph or function of it, has one of these operators."""
    bodies = (model.graph.all_nodes(), *(body.all_nodes() for body in model.functions.values()))
    return any(node.op_type in names for body in bodies for node in body)
