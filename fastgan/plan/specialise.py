"""graph + input shapes -> static graph, in one forward walk over the op registry.

A node whose inputs are all known is evaluated, within limits on size. Of a node that depends on
data only the shapes and dtypes of the outputs are told, as `meta` tensors, which have no elements.
`Shape` of either is known, an If with a known condition is its branch, and a Loop that runs a known
number of times is unrolled. So every shape chain, mask and exporter artefact folds in linear time,
and there is no separate shape inference to keep in step with the ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from fastgan import ops
from fastgan.errors import ArgumentError, LimitError, UnsupportedError
from fastgan.host.garbage import collected_at_the_end
from fastgan.limits import GIB, KIB, MIB, Limits, size_text
from fastgan.model.late import LATE, LEAST, Array, Late
from fastgan.ops.elementwise import onnx_dtype, torch_dtype
from fastgan.ops.nodes import (
    as_meta,
    attribute_value,
    bind_host_inputs,
    check_dtypes,
    resolve,
    to_meta,
    to_onnx,
    to_torch,
    where,
)
from fastgan.plan import decisions
from fastgan.plan.selections import Slot as _Slot
from fastgan.plan.selections import put_off, refusal
from fastgan.plan.weights import identity_of_numbers

__all__ = ["MisfitError", "attribute_value", "specialise", "to_torch"]

#: A constant larger than this stays a node of the graph: it is cheaper to compute than to keep.
FOLD_BYTES = 64 * MIB
#: All constants made by one walk; beyond it only those that hold shapes are still evaluated.
TOTAL_FOLD_BYTES = 2 * GIB
SHAPE_BYTES = 4 * KIB
#: A constant larger than this, and than what it is made of, is an attack rather than a model.
CONSTANT_BYTES = GIB
#: Any other tensor.
TENSOR_BYTES = Limits().activation_bytes
#: Nodes that unrolled loops come to.
MAX_UNROLLED = 50_000


class MisfitError(UnsupportedError):
    """Inputs that do not fit an op, by their shapes or by the numbers that a shape is made of.

    Attributes:
        node: of the graph given to `specialise`.
        arguments: what its op was called with: tensors, on `meta` where they depend on data, and
            Python values.
    """

    def __init__(self, node: ir.Node, op: str, arguments: Sequence[Any], reason: str) -> None:
        shapes = [tuple(a.shape) if isinstance(a, Tensor) else a for a in arguments]
        super().__init__(where(node), f"inputs {shapes} ({reason})", f"inputs that fit {op}")
        self.node, self.arguments = node, tuple(arguments)


def specialise(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    decided: list[decisions.Decision] | None = None,
) -> ir.Model:
    """A copy of `model` for these input shapes, with every value's shape and dtype static.

    Args:
        model: any checked model; it is not changed.
        shapes: the shape of each graph input, by name.
        decided: to be told what the graph decides by known values.

    Returns:
        A model in which every node depends on data or draws random numbers, and is needed for an
        output; all else is an initializer. Weights are shared with `model`, not copied. A node
        that draws random numbers gets its place among them as the attribute `node_index`, and
        one that is computed by its number of outputs that as `num_outputs`.

    Raises:
        UnsupportedError: for an op that is not registered, an attribute that its function does not
            know, a shape or a condition that depends on data.
        MisfitError: for inputs that do not fit an op.
        LimitError: for a tensor that no honest model has.
        ArgumentError: for an input without a shape in `shapes`.
    """
    with collected_at_the_end():
        return _Walk(model, shapes, decided).run()


class _Walk:
    def __init__(
        self,
        model: ir.Model,
        shapes: Mapping[str, tuple[int, ...]],
        decided: list[decisions.Decision] | None,
    ) -> None:
        self.model = model
        self.shapes = shapes
        self.decided = decided
        self.slots: dict[ir.Value, _Slot] = {}
        self.names: set[str] = set()
        self.initializers: list[ir.Value] = []
        self.inputs: frozenset[ir.Value] = frozenset()
        self.nodes: list[ir.Node] = []
        self.unrolled = self.folded = self.random_nodes = 0

    def run(self) -> ir.Model:
        old = self.model.graph
        inputs = []
        for value in old.inputs:
            if value.name in old.initializers:
                continue  # an initializer that may be overridden; here it is not
            slot = self.slots[value] = _Slot(self._input(value), value.name or "")
            slot.value = self._new_value(slot)
            inputs.append(slot.value)
        self.inputs = frozenset(inputs)
        for node in old:
            self._visit(node)
        outputs = [self._output(value) for value in old.outputs]
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._needed(outputs),
            initializers=self.initializers,
            opset_imports=dict(old.opset_imports),
            name=old.name,
        )
        return ir.Model(graph, ir_version=self.model.ir_version)

    def _input(self, value: ir.Value) -> Tensor:
        name = value.name or ""
        if name not in self.shapes:
            raise ArgumentError("shapes", f"no shape of input {value.name!r}", "one of each input")
        try:
            dtype = torch_dtype(value.dtype or ir.DataType.FLOAT)
        except KeyError:
            raise UnsupportedError(
                f"input {value.name!r}", f"elements of type {value.dtype}", "numbers or booleans"
            ) from None
        shape = tuple(self.shapes[name])
        size = math.prod(shape) * dtype.itemsize
        if size > TENSOR_BYTES:  # beyond 2 ** 63 PyTorch can't even count it
            needed = f"at most {size_text(TENSOR_BYTES)}"
            raise LimitError(f"input {name!r}", f"shape {shape}", needed)
        return torch.empty(shape, dtype=dtype, device="meta")

    # One node ---------------------------------------------------------------------------------

    def _visit(self, node: ir.Node) -> None:
        slots = [None if value is None else self._slot(value) for value in node.inputs]
        if node.domain in ("", "ai.onnx") and node.op_type in ("If", "Loop"):
            results = self._branch(node, slots) if node.op_type == "If" else self._loop(node, slots)
        else:
            results = self._apply(node, slots)
        for value, slot in zip(node.outputs, results, strict=False):
            self.slots[value] = slot

    def _apply(self, node: ir.Node, inputs: Sequence[_Slot | None]) -> list[_Slot]:
        op, attributes = resolve(node, self.model.opset_imports)
        if op.random:
            attributes["node_index"] = self.random_nodes
            self.random_nodes += 1
        tensors = [
            None if slot is None else slot.known() if i in op.host else slot.tensor
            for i, slot in enumerate(inputs)
        ]
        error = self._undecided(node, op, inputs)
        if error is not None or any(slot is not None and slot.pending for slot in inputs):
            put = put_off(node, op, inputs, attributes, error, self._emit)
            if put is None:
                pending = [s.pending for s in inputs if s is not None and s.pending]
                raise error or pending[0].error
            return [put]
        if op.name == "CastLike":  # of the second input the type alone matters, which is known
            like = tensors[1] if len(tensors) > 1 else None
            if like is None:
                raise UnsupportedError(where(node), "one input", "two: the second states the type")
            cast = ir.node("Cast", [], {"to": int(onnx_dtype(like.dtype))}, name=node.name)
            cast.outputs[0].name = node.outputs[0].name
            return self._apply(cast, inputs[:1])
        given = [slot for slot in inputs if slot is not None]
        if any(slot.late for slot in given) and not any(slot.computed for slot in given):
            later = self._later(node, op, inputs, tensors, attributes)
            if later is not None:
                return [later]
            tensors = [None if slot is None else slot.known() for slot in inputs]
        arguments = bind_host_inputs(node, op, tensors)
        results = self._evaluate(node, op, arguments, attributes)
        check_dtypes(node, op, (*tensors, *results))
        if self.decided is not None and not op.domain:
            made = decisions.decision(node, op.name, tensors, results[0])
            self.decided += [] if made is None else [made]
        if len(results) == 1:
            for slot, tensor in zip(inputs, tensors, strict=True):
                if slot is not None and tensor is results[0]:
                    return [slot]
        names = [
            value.name or f"{node.outputs[0].name}.{i}" for i, value in enumerate(node.outputs)
        ]
        slots = [_Slot(tensor, name) for tensor, name in zip(results, names, strict=False)]
        if any(tensor.is_meta for tensor in results):
            self._keep(node, inputs, slots, attributes)
        return slots

    def _later(
        self,
        node: ir.Node,
        op: ops.Op,
        inputs: Sequence[_Slot | None],
        tensors: list[Tensor | None],
        attributes: dict[str, Any],
    ) -> _Slot | None:
        """What a node makes of constants that nobody has read, without reading them: one more of
        these, unless it is small; None where they have to be read.

        tensors: of the inputs, without their numbers where those are late.
        """
        decides = self.decided is not None and op.name in decisions.NAMES and op.name != "Div"
        if op.random or op.dynamic or decides or len(node.outputs) != 1:
            return None
        arguments = bind_host_inputs(node, op, tensors)
        given = [to_meta(a) for a in arguments] if op.infer is op.function else arguments
        results = _call(node, op, op.infer, given, attributes)
        result = results[0]
        same = [slot for slot, a in zip(inputs, given, strict=False) if a is result]
        if same or len(results) > 1:
            return same[0] if same and len(results) == 1 else None
        name = node.outputs[0].name or ""
        if not result.is_meta:  # as a shape is
            return _Slot(result, name)
        size = result.numel() * result.element_size()
        if size < LEAST or size > FOLD_BYTES or self.folded + size > TOTAL_FOLD_BYTES:
            return None
        if onnx_dtype(result.dtype) not in LATE:
            return None
        check_dtypes(node, op, (*tensors, result))
        self._check_size(node, arguments, results, size, known=True)
        if self.decided is not None and not op.domain:
            decided = decisions.decision(node, op.name, tensors, result)
            self.decided += [] if decided is None else [decided]
        self.folded += size

        def read() -> Array:
            known = [None if slot is None else slot.known() for slot in inputs]
            made = _call(node, op, op.function, bind_host_inputs(node, op, known), attributes)[0]
            others = (t for t, s in zip(known, inputs, strict=True) if s is not None and not s.late)
            made = made.clone() if any(map(_shares(made), others)) else made
            return np.asarray(to_onnx(made, name).numpy())

        identity = (
            (op.domain, op.name),
            tuple(sorted((key, _plain(value)) for key, value in attributes.items())),
            tuple(None if slot is None else _identity(slot) for slot in inputs),
        )
        constants = (slot.constant for slot in inputs if slot is not None)
        holder = next((c.holder for c in constants if isinstance(c, Late)), None)
        shape, dtype = tuple(result.shape), onnx_dtype(result.dtype)
        return _Slot(result, name, Late(read, dtype, shape, identity, name, holder))

    @staticmethod
    def _undecided(
        node: ir.Node, op: ops.Op, inputs: Sequence[_Slot | None]
    ) -> UnsupportedError | None:
        """Why the shape of what a node makes is not known; None where it is."""
        computed = [slot is not None and slot.computed for slot in inputs]
        if op.dynamic and any(computed):
            return refusal(node, op.name)
        shaped = op.name in ("Expand", "ConstantOfShape")
        if shaped and any(index < len(computed) and computed[index] for index in op.host):
            return UnsupportedError(
                where(node), f"a shape of {op.name} computed from the data", "a constant or a shape"
            )
        return None

    def _evaluate(
        self, node: ir.Node, op: ops.Op, arguments: list[Any], attributes: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        """The node's outputs: with data where all inputs are known and the result is small."""
        known = not any(isinstance(a, Tensor) and a.is_meta for a in arguments)
        if op.dynamic and op.infer is op.function:
            return _call(node, op, op.function, arguments, attributes)
        given = [to_meta(a) for a in arguments] if op.infer is op.function else arguments
        results = _call(node, op, op.infer, given, attributes)
        if not any(tensor.is_meta for tensor in results):
            return results
        size = sum(tensor.numel() * tensor.element_size() for tensor in results)
        if size <= SHAPE_BYTES:
            foldable = True
        else:
            self._check_size(node, arguments, results, size, known)
            foldable = size <= FOLD_BYTES and self.folded + size <= TOTAL_FOLD_BYTES
        if not known or not foldable or op.random:
            return results
        self.folded += size
        return _call(node, op, op.function, arguments, attributes)

    def _check_size(
        self, node: ir.Node, arguments: list[Any], results: Sequence[Tensor], size: int, known: bool
    ) -> None:
        limit = TENSOR_BYTES
        if known:
            read = sum(a.numel() * a.element_size() for a in arguments if isinstance(a, Tensor))
            limit = max(CONSTANT_BYTES, read)
        if size > limit:
            shapes = ", ".join(str(list(tensor.shape)) for tensor in results)
            kind = "a constant" if known else "a tensor"
            raise LimitError(
                where(node), f"{kind} of shape {shapes}", f"at most {size_text(limit)}"
            )

    def _keep(
        self,
        node: ir.Node,
        inputs: Sequence[_Slot | None],
        outputs: Sequence[_Slot],
        attributes: Mapping[str, Any],
    ) -> None:
        for slot in outputs:
            slot.value = self._new_value(slot)
        added = [
            ir.AttrInt64(name, attributes[name])
            for name in ("num_outputs", "node_index")
            if name in attributes and name not in node.attributes
        ]
        self.nodes.append(
            ir.Node(
                node.domain,
                node.op_type,
                [None if slot is None else self._value(slot) for slot in inputs],
                [*node.attributes.values(), *added],
                outputs=[slot.value for slot in outputs if slot.value is not None],
                name=node.name,
            )
        )

    # Control flow -----------------------------------------------------------------------------

    def _branch(self, node: ir.Node, inputs: Sequence[_Slot | None]) -> list[_Slot]:
        taken = "then_branch" if _known(node, inputs[0], "condition") else "else_branch"
        graph = node.attributes[taken].as_graph()
        for inner in graph:
            self._visit(inner)
        return [self._slot(value) for value in graph.outputs]

    def _loop(self, node: ir.Node, inputs: Sequence[_Slot | None]) -> list[_Slot]:
        body = node.attributes["body"].as_graph()
        most = MAX_UNROLLED if inputs[0] is None else int(_known(node, inputs[0], "trip count"))
        go_on = inputs[1]
        carried = [slot for slot in inputs[2:] if slot is not None]
        scanned: list[list[_Slot]] = [[] for _ in body.outputs[1 + len(carried) :]]
        for step in range(most):
            if go_on is not None and not _known(node, go_on, "condition"):
                break
            self.unrolled += 1 + len(body)
            if self.unrolled > MAX_UNROLLED:
                raise LimitError(
                    where(node),
                    f"more than {MAX_UNROLLED} nodes unrolled",
                    "loops that are shorter",
                )
            count = _Slot(torch.tensor(step), f"{node.name}.step{step}")
            go_on = go_on or _Slot(torch.tensor(True), f"{node.name}.go_on")
            for value, slot in zip(body.inputs, (count, go_on, *carried), strict=True):
                self.slots[value] = slot
            for inner in body:
                self._visit(inner)
            go_on, *results = [self._slot(value) for value in body.outputs]
            carried, last = results[: len(carried)], results[len(carried) :]
            for slots, slot in zip(scanned, last, strict=True):
                slots.append(slot)
        return [*carried, *(self._stack(node, slots) for slots in scanned)]

    def _stack(self, node: ir.Node, slots: list[_Slot]) -> _Slot:
        """One tensor of what each turn of a loop gave."""
        if not slots:
            raise UnsupportedError(where(node), "a Loop that never runs", "one turn at least")
        shape = torch.tensor([1, *slots[0].tensor.shape])
        parts = []
        for slot in slots:
            target = _Slot(shape, f"{slot.name}.row")
            parts.append(self._emit("Reshape", [slot, target], f"{slot.name}.as_row"))
        return self._emit("Concat", parts, f"{slots[0].name}.stacked", axis=0)

    def _emit(
        self, op_type: str, inputs: Sequence[_Slot | None], name: str, **attributes: Any
    ) -> _Slot:
        """One ONNX node of our own."""
        node = ir.node(op_type, [], attributes)
        node.outputs[0].name = name
        return self._apply(node, inputs)[0]

    # Values -----------------------------------------------------------------------------------

    def _slot(self, value: ir.Value) -> _Slot:
        slot = self.slots.get(value)
        if slot is None:
            constant = value.const_value
            if constant is None:
                raise UnsupportedError(f"value {value.name!r}", "no definition", "a known value")
            late = isinstance(constant, Late)
            tensor = as_meta(constant) if late else to_torch(constant)
            slot = self.slots[value] = _Slot(tensor, value.name or "", constant)
        return slot

    def _value(self, slot: _Slot) -> ir.Value:
        if slot.pending is not None:
            raise slot.pending.error
        if slot.value is None:
            slot.value = self._new_value(slot)
            slot.value.const_value = slot.constant or to_onnx(slot.tensor, slot.value.name)
            self.initializers.append(slot.value)
        return slot.value

    def _new_value(self, slot: _Slot) -> ir.Value:
        """A value of the new graph, under the old name where that is not taken."""
        name = slot.name
        while name in self.names:  # a body that is unrolled, or names that only branches share
            name = f"{slot.name}.{len(self.names)}"
        self.names.add(name)
        return ir.Value(
            name=name,
            shape=ir.Shape(tuple(slot.tensor.shape)),
            type=ir.TensorType(onnx_dtype(slot.tensor.dtype)),
        )

    def _output(self, value: ir.Value) -> ir.Value:
        """The new graph's output; one that is a constant, shared or renamed gets an Identity."""
        new = self._value(self._slot(value))
        if (new.producer() is not None or new in self.inputs) and new.name == value.name:
            return new
        node = ir.Node("", "Identity", [new], num_outputs=1)
        node.outputs[0].name = value.name
        node.outputs[0].shape, node.outputs[0].type = new.shape, new.type
        if new.name == value.name:
            new.name = f"{value.name}.source"
        self.nodes.append(node)
        return node.outputs[0]

    def _needed(self, outputs: list[ir.Value]) -> list[ir.Node]:
        """The nodes that an output depends on, in order; the others let go of their inputs."""
        live = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if live.isdisjoint(node.outputs):
                for index in range(len(node.inputs)):
                    node.replace_input_with(index, None)
                continue
            live.update(value for value in node.inputs if value is not None)
            kept.append(node)
        self.initializers = [value for value in self.initializers if value in live]
        return kept[::-1]


def _shares(made: Tensor) -> Callable[[Tensor | None], bool]:
    """Whether a tensor is in the same memory."""
    place = made.untyped_storage().data_ptr()
    return lambda other: other is not None and other.untyped_storage().data_ptr() == place


def _identity(slot: _Slot) -> Hashable:
    """Equal for equal numbers."""
    return slot.constant.identity if isinstance(slot.constant, Late) else _plain(slot.tensor)


def _plain(value: Any) -> Hashable:
    """An attribute, or a constant, as what can be compared."""
    return identity_of_numbers(value) if isinstance(value, Tensor) else repr(value)


def _known(node: ir.Node, slot: _Slot | None, what: str) -> Any:
    """The one element of a condition or a trip count."""
    if slot is None or slot.computed:
        raise UnsupportedError(where(node), f"a {what} computed from the data", "a constant")
    if slot.tensor.numel() != 1:
        raise UnsupportedError(where(node), f"a {what} of {slot.tensor.numel()} elements", "one")
    return slot.known().item()


def _call(
    node: ir.Node, op: ops.Op, function: Any, arguments: list[Any], attributes: dict[str, Any]
) -> tuple[Tensor, ...]:
    try:
        result = function(*arguments, **attributes)
    except UnsupportedError:
        raise
    except Exception as error:  # whatever torch says of inputs that do not fit
        raise MisfitError(node, op.name, arguments, _first_line(error)) from error
    results = result if isinstance(result, tuple) else (result,)
    if any(made is None for made in results):  # of inputs that are all left out
        raise MisfitError(node, op.name, arguments, "it makes nothing of them")
    return results


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
