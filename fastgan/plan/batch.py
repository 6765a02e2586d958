"""Which batch sizes a file really runs at, whatever sizes it declares.

An exporter traces with an example and may keep the example's batch: in the declared input alone,
which is harmless, or in the graph, by a Reshape to `[4, 256, 4, 4]` or a constant of four rows,
under inputs that are declared open or not. `settle` follows the samples through the graph, bound
to two batch sizes, without running anything, and says in the signature what it can prove: that the
file runs at any batch, or at one alone. Where it can prove neither, the file runs as it is.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from fastgan.errors import FastganError
from fastgan.model.guess import parameters
from fastgan.model.signature import Signature, input_shapes
from fastgan.plan.decisions import Decision, same_at_any
from fastgan.plan.following import follow
from fastgan.plan.sample_rules import integers
from fastgan.plan.samples import Flow, Names, sizes
from fastgan.plan.specialise import specialise

log = logging.getLogger("fastgan")

#: What the first axis of an open batch is called.
OPEN = "batch"
#: Two batch sizes that are unlike each other and most numbers of a graph; smaller ones where the
#: tensors of the second would be too large.
_PROBES = (2, 7)
#: Operators whose second input is the shape that they make.
_SHAPED = ("Reshape", "Expand")
#: Sizes tried: each binds the graph once more.
_MOST_TRIED = 8


def settle(model: ir.Model, signature: Signature) -> Signature:
    """The signature with the batch that the graph runs at: a number, or open.

    The graph's inputs are declared so too, in place, which `plan.make` goes by: it can make of a
    graph for one batch one for any, where no sample meets another. Each output is told whether its
    rows are of one sample each (`Output.apart`).
    """
    declared = signature.frozen_batch
    shared = parameters(model.graph)
    if declared is not None:
        for inputs in _leading(signature, declared, shared):
            opened = _with_batch(signature, inputs, OPEN)
            apart = _Search(model, opened, inputs).apart_at_any(own_draws=True)
            if signature.made.name in apart:
                return _declared(model, _told(opened, apart), inputs, OPEN)
        return as_declared(model, signature)
    ports = (i for i in signature.inputs if i.shape and signature.has_rows(i))
    inputs = {i.name for i in ports if not isinstance(i.shape[0], int)} - shared
    if not inputs:
        return _told(signature, ())
    search = _Search(model, signature, inputs)
    apart = search.apart_at_any()
    if signature.made.name in apart:
        return replace(_told(signature, apart), shared_draws=search.shared_draws)
    for size in () if search.of_all() else search.candidates():
        closed = _with_batch(signature, inputs, size)
        bound = _bind(model, closed, inputs, size, None)
        if bound is None:
            continue
        found = _told(closed, bound.apart())
        if found.made.apart and search.traced(size):
            if search.tried(size) is not None:
                log.warning(
                    "a Reshape states %d, which may be a size: it is taken for a traced batch, "
                    "so that other batches are computed as this one, and not as the file says",
                    size,
                )
            return _declared(model, found, inputs, size)
    return _told(signature, apart)


def example(model: ir.Model, signature: Signature) -> int:
    """A batch that a settled graph takes: 1, or where it does not, the first found; else 1."""
    if signature.frozen_batch is not None or signature.made.apart:
        return 1
    tried = (1, *_PROBES, *_literals(model)[:_MOST_TRIED])
    return next((n for n in tried if n > 0 and _bind(model, signature, (), n, None)), 1)


def as_declared(model: ir.Model, signature: Signature) -> Signature:
    """The signature of a file that runs at the batch that it declares, outputs told as above."""
    size = signature.frozen_batch
    if size is None:
        return signature
    inputs = next(_leading(signature, size, parameters(model.graph)), set())
    return _told(signature, _apart_at(model, signature, inputs, size))


def _leading(signature: Signature, size: int, shared: Collection[str]) -> Iterator[set[str]]:
    """The inputs that may be of samples, by their first axes: all of them, or the first alone."""
    names = [
        i.name
        for i in signature.inputs
        if i.shape[:1] == (size,)
        and i.kind != "noise"
        and signature.has_rows(i)
        and i.name not in shared
    ]
    if names:
        yield set(names)
    if len(names) > 1:
        yield {names[0]}


@dataclass(frozen=True, slots=True)
class _Bound:
    """A graph bound to a batch size, its samples followed, and what it decided by sizes."""

    graph: ir.Graph
    flow: Flow
    decided: list[Decision]

    def apart(self) -> dict[str, ir.Value]:
        """The outputs whose rows are of one sample each."""
        return {v.name or "": v for v in self.graph.outputs if self.flow.made_apart(v)}


def _bind(
    model: ir.Model, signature: Signature, inputs: Collection[str], n: int, names: Names | None
) -> _Bound | None:
    """None where the graph does not take this batch."""
    decided: list[Decision] = []
    try:
        bound = specialise(model, input_shapes(signature, n), decided)
    except FastganError:
        return None
    return _Bound(bound.graph, follow(bound, inputs, n, names), decided)


def _apart_at(
    model: ir.Model, signature: Signature, inputs: Collection[str], size: int
) -> set[str]:
    """The outputs whose rows are of one sample each where the batch is `size`."""
    if size == 1 and signature.frozen_batch == 1:
        # One sample meets no other. That its result is its row is seen when it runs.
        return {o.name for o in signature.outputs if not o.shape or o.shape[0] in (1, OPEN)}
    bound = _bind(model, signature, inputs, size, None)
    return set() if bound is None else set(bound.apart())


class _Search:
    """What the graph does at several batch sizes.

    Args:
        inputs: the names of those that are of samples; open in the signature.
    """

    def __init__(self, model: ir.Model, signature: Signature, inputs: Collection[str]) -> None:
        self._model, self._signature, self._inputs = model, signature, inputs
        constants = (value.const_value for value in model.graph.initializers.values())
        self._names = Names(frozenset(id(tensor) for tensor in constants))
        self._few, self._many = (self._at(size) for size in _PROBES)

    def _at(self, n: int) -> _Bound | None:
        return _bind(self._model, self._signature, self._inputs, n, self._names)

    def apart_at_any(self, own_draws: bool = False) -> set[str]:
        """The outputs whose rows are made of one sample each, in one way at every batch.

        Args:
            own_draws: each sample must have numbers of its own wherever any are drawn.
        """
        few, many = self._few, self._many
        if few is None or many is None or (own_draws and many.flow.shared_draws):
            return set()
        if not same_at_any(few.decided, many.decided, _PROBES):
            return set()
        one, other = few.apart(), many.apart()
        return {
            name
            for name in one.keys() & other.keys()
            if few.flow.lays[one[name]].alike
            and many.flow.lays[other[name]].alike
            and few.flow.numbers[one[name]] == many.flow.numbers[other[name]]
        }

    @property
    def shared_draws(self) -> frozenset[int]:
        """The nodes that draw once for all samples; at one sample they look like any other."""
        return frozenset() if self._many is None else frozenset(self._many.flow.shared_draws)

    @property
    def takes_others(self) -> bool:
        """Whether the graph runs at any batch as it is."""
        return self._few is not None and self._many is not None

    def of_all(self) -> bool:
        """Whether every batch gives a result of one size, that is not declared to have its rows."""
        shape = self._signature.made.shape
        rows = {i.shape[0] for i in self._signature.inputs if i.name in self._inputs}
        alike = self.takes_others and self._made(self._few) == self._made(self._many)
        return alike and (not shape or shape[0] not in rows)

    def traced(self, size: int) -> bool:
        """Whether a file that takes more samples than `size` is likely a trace of so many.

        The other reading of a Reshape to `[2, -1, 4]` is that it means what it says at any batch.
        The declared output may say which of its axes is of samples. Where it does not, a file that
        takes any batch as it is means what it says, unless what it makes of another one is not
        what it declares, or is a row for each sample, of which each was made of all of them.
        """
        if self._meant(size):
            return False
        shape = self._signature.made.shape
        ports = [i.shape for i in self._signature.inputs if i.name in self._inputs]
        rows = {port[0] for port in ports}
        others = {dim for port in ports for dim in port[1:]}
        elsewhere = (isinstance(d, str) and (d in rows or d not in others) for d in shape[1:])
        if shape and isinstance(shape[0], int) and any(elsewhere):
            return False
        tried = self.tried(size)
        if tried is None:
            return True
        made = [self._made(bound) for bound in tried.values()]
        declared = [[n if d in rows else d for d in shape] for n in tried]
        return any(map(_differ, declared, made)) or [m[:1] for m in made] == [(n,) for n in tried]

    def tried(self, size: int) -> dict[int, _Bound] | None:
        """The graph at two batches other than `size`, by their sizes: any, or else multiples of it,
        which are all that a Reshape to `[3, -1]` may take. None where it runs at neither.
        """
        for sizes_ in (_PROBES, (2 * size, 3 * size)):
            found = {n: bound for n in sizes_ if (bound := self._at(n)) is not None}
            if len(found) == len(sizes_):
                return found
        return None

    def _made(self, bound: _Bound | None) -> tuple[int, ...]:
        """The sizes of the output that counts."""
        name = self._signature.made.name
        values = [] if bound is None else bound.graph.outputs
        return next((sizes(value) for value in values if value.name == name), ())

    def _meant(self, size: int) -> bool:
        """Whether more samples than `size` meet behind Reshapes to sizes that the graph computes
        from the batch, so that none of a trace is in them.
        """
        more, most = self._at(2 * size), self._at(3 * size)
        if more is None or most is None:
            return False
        stated = {node.outputs[0].name: integers(node, 1, "shape") for node in most.graph}

        def computed(node: ir.Node) -> bool:
            return stated.get(node.outputs[0].name) != integers(node, 1, "shape")

        return any(m.broken and all(map(computed, m.broken)) for m in more.flow.meetings)

    @functools.cached_property
    def _alone(self) -> _Bound | None:
        return self._at(1)

    def candidates(self) -> list[int]:
        """Batches that the graph may have been made for, the likeliest first.

        Where the graph takes any batch, those are the sizes that a Reshape states which lays
        samples across axes, or side by side, before they meet. No samples meet in a batch of one,
        so that 1 must have been stated too, or be the only size that the graph takes.
        """
        meetings = [m for bound in (self._many, self._few) if bound for m in bound.flow.meetings]
        shapes = [sizes(node.outputs[0]) for m in meetings for node in m.broken]
        ones = any(shape[0] == 1 for shape in shapes)
        found = [1] if ones else []  # before a window's sizes: [1, 8, 8, -1] is of one sample
        found += [size for shape in shapes for size in shape if size > 1]
        if not self.takes_others:
            made = self._signature.made.name
            rows = (
                []
                if self._alone is None
                else [v for v in self._alone.graph.outputs if v.name == made and sizes(v)]
            )
            found += [sizes(value)[0] for value in rows]
            if self._alone is not None and self._few is None and self._many is None:
                ones = ones or all(self._alone.flow.made_apart(value) for value in rows)
            found += [s for o in self._signature.outputs for s in o.shape[:1] if isinstance(s, int)]
            found += _literals(self._model)
            found += [_PROBES[0]] if self._few is not None else []
        likely = dict.fromkeys(size for size in found if size > 1 or (size == 1 and ones))
        return list(likely)[:_MOST_TRIED]


def _differ(declared: Sequence[int | str | None], made: Sequence[int]) -> bool:
    """Whether sizes are others than those declared, as far as any are."""
    if declared and len(declared) != len(made):
        return True
    return any(isinstance(d, int) and d != size for d, size in zip(declared, made, strict=False))


def _literals(model: ir.Model) -> list[int]:
    """The sizes that the file states for shapes: first ones first."""
    firsts: list[int] = []
    others: list[int] = []
    for node in model.graph:
        if node.op_type in _SHAPED and len(node.inputs) > 1:
            values = [node.inputs[1]]
        elif node.op_type == "Concat":
            values = [v for v in node.inputs if v is not None]
        else:
            continue
        for value in values:
            tensor = None if value is None else ir.convenience.get_const_tensor(value)
            if tensor is None or tensor.dtype != ir.DataType.INT64 or not 0 < tensor.size < 9:
                continue
            first, *rest = (int(size) for size in tensor.numpy().reshape(-1))
            (firsts if node.op_type in _SHAPED else others).append(first)
            others += rest
    return firsts + others


def _told(signature: Signature, apart: Collection[str]) -> Signature:
    """The signature with what is known of each output's rows."""
    outputs = tuple(replace(o, apart=o.name in apart) for o in signature.outputs)
    return replace(signature, outputs=outputs)


def _declared(
    model: ir.Model, signature: Signature, inputs: Collection[str], batch: int | str
) -> Signature:
    """Declare the graph's inputs with the batch that the signature has; returns the signature."""
    for value in model.graph.inputs:
        if value.name in inputs and value.shape is not None:
            value.shape = ir.Shape((batch, *value.shape.dims[1:]))
    return signature


def _with_batch(signature: Signature, names: Collection[str], batch: int | str) -> Signature:
    """These inputs, and every output, with another first axis."""
    inputs = tuple(
        replace(i, shape=(batch, *i.shape[1:])) if i.name in names else i for i in signature.inputs
    )
    outputs = tuple(
        replace(o, shape=(batch, *o.shape[1:])) if o.shape else o for o in signature.outputs
    )
    fixed = batch if isinstance(batch, int) else None
    return replace(signature, inputs=inputs, outputs=outputs, batch=fixed)
