"""Whether the graph is one: every name defined once and before it is used, every count and depth
within limits, every attribute, type and weight sound. One walk, linear in the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import onnx
from onnx import AttributeProto as A

from fastgan.errors import FastganError, LimitError, UnsupportedError
from fastgan.limits import Limits, size_text
from fastgan.model.file import attributes
from fastgan.model.file.scope import Scope, reaches
from fastgan.model.file.sizes import AXIS_INPUTS, RANK_INPUTS
from fastgan.model.file.source import Source
from fastgan.model.file.stored import Split
from fastgan.model.file.tensors import BITS, Tensors, type_name

_VALUES: dict[int, Callable[[onnx.AttributeProto], Any]] = {
    A.INT: lambda a: a.i,
    A.FLOAT: lambda a: a.f,
    A.STRING: lambda a: a.s,
    A.INTS: lambda a: tuple(a.ints),
    A.FLOATS: lambda a: tuple(a.floats),
    A.STRINGS: lambda a: tuple(a.strings),
}
_PLAIN = {A.TENSOR, A.TENSORS, A.GRAPH, A.GRAPHS, A.TYPE_PROTO, A.TYPE_PROTOS}
_SPARSE = {A.SPARSE_TENSOR, A.SPARSE_TENSORS}

# ONNX Runtime 1.31 reads past the inputs of these where the last is given as "".
_NO_EMPTY_TAIL = frozenset(("LayerNormalization",))

# What ONNX Runtime makes of a shape alone, so that it is constant where the shape is.
_SHAPE_OPS = frozenset(("Shape", "Size"))


class Checker:
    """One walk over a model.

    Attributes:
        tensors: the weights seen, their total and whether any is external.
        nodes: how many nodes were seen, subgraphs included.
        folds: whether the sizes of computed constants need a look: a node computes from constants
            alone, so that a runtime folds it at load, or its rank comes from an input, or it is a
            Slice, which must not be of a size below 0.
        rewritten: a node that had to be written another way with the same meaning, or "".
    """

    def __init__(self, source: Source, limits: Limits, parts: Split) -> None:
        self.source, self.limits, self._parts = source, limits, parts
        self.tensors = Tensors(source, limits)
        self.nodes = 0
        self.folds = False
        self.rewritten = ""
        self._opsets: dict[str, int] = {}
        self._activations = 0
        self._deadline = time.monotonic() + limits.seconds

    def check(self, proto: onnx.ModelProto) -> None:
        """Raise for the first thing that is wrong with `proto`."""
        self._opsets = self._check_opsets(proto)
        if not proto.graph.output:
            raise self._error("the graph", "no outputs", "at least one")
        self._check_graph(proto.graph, None, "", 0)

    def _check_opsets(self, proto: onnx.ModelProto) -> dict[str, int]:
        newest = onnx.defs.onnx_opset_version()
        if not 1 <= proto.ir_version <= onnx.IR_VERSION:
            found, needed = str(proto.ir_version), f"1 to {onnx.IR_VERSION}"
            raise self._error("IR version", found, needed, "a newer onnx package may know it")
        opsets: dict[str, int] = {}
        for entry in proto.opset_import:
            domain = "" if entry.domain == "ai.onnx" else entry.domain
            if opsets.setdefault(domain, entry.version) != entry.version:
                raise self._error(
                    f"opset import '{domain}'",
                    f"versions {opsets[domain]} and {entry.version}",
                    "one version",
                )
        if not opsets and proto.ir_version < 3:
            opsets[""] = 1  # Opset imports came with IR version 3.
        if not 1 <= opsets.get("", 1) <= newest:
            raise self._error(
                "ONNX opset",
                str(opsets[""]),
                f"1 to {newest}",
                "a newer onnx package may know it, or export with a lower opset_version",
            )
        return opsets

    def _check_graph(
        self,
        graph: onnx.GraphProto,
        outer: Scope | None,
        inside: str,
        depth: int,
        fixed: int = 0,
    ) -> None:
        if depth > self.limits.depth:
            raise LimitError(
                f"{self.source.name}: {inside.removeprefix(' in ')}",
                f"{depth} nested subgraphs",
                f"at most {self.limits.depth} (Limits.depth)",
            )
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise self._unsupported(f"initializer '{name}'{inside}", "a sparse tensor", "a dense")
        scope = Scope(outer, fixed)
        declared: dict[str, onnx.TypeProto] = {}
        for value in graph.input:
            self._define(scope, value.name, f"input '{value.name}'{inside}")
            if outer is None and not value.type.HasField("tensor_type"):
                found = value.type.WhichOneof("value") or "no type"
                raise self._unsupported(f"input '{value.name}'", found, "a tensor")
            self._check_type(value.type, f"input '{value.name}'{inside}")
            declared[value.name] = value.type
        for value in graph.value_info:
            self._check_type(value.type, f"value '{value.name}'{inside}")
            declared.setdefault(value.name, value.type)
        self._check_initializers(graph, scope, declared, inside)
        for index, node in enumerate(graph.node):
            self._check_node(graph, node, index, scope, inside, depth)
        for value in graph.output:
            what = f"output '{value.name}'{inside}"
            if value.name not in scope.names:
                raise self._error(what, "no node, input or weight of that name", "one of the graph")
            self._check_type(value.type, what)

    def _check_initializers(
        self,
        graph: onnx.GraphProto,
        scope: Scope,
        declared: dict[str, onnx.TypeProto],
        inside: str,
    ) -> None:
        inputs = set(scope.names)
        for index, tensor in enumerate(graph.initializer):
            what = f"initializer '{tensor.name}'{inside}"
            if tensor.name in inputs:
                inputs.remove(tensor.name)  # A default value, which it may have once.
            else:
                self._define(scope, tensor.name, what)
            cut = self._parts.size(None if inside else index)
            shape = self.tensors.check(tensor, what, cut)
            scope.weights[tensor.name] = shape
            scope.constants.add(tensor.name)
            if (said := declared.get(tensor.name)) is not None and said.HasField("tensor_type"):
                self._check_declared(tensor, shape, said.tensor_type, what)

    def _check_declared(
        self, tensor: onnx.TensorProto, shape: tuple[int, ...], said: Any, what: str
    ) -> None:
        """Whether a weight is what the graph declares under its name."""
        if said.elem_type and said.elem_type != tensor.data_type:
            needed = f"{type_name(said.elem_type)}, as declared"
            raise self._error(what, type_name(tensor.data_type), needed)
        if not said.HasField("shape"):
            return
        dims = [d.dim_value if d.HasField("dim_value") else None for d in said.shape.dim]
        fits = len(dims) == len(shape) and all(
            size is None or size == real for size, real in zip(dims, shape, strict=True)
        )
        if not fits:
            raise self._error(what, f"shape {list(shape)}", f"{dims}, as declared")

    def _check_type(self, kind: onnx.TypeProto, what: str) -> None:
        """Whether a declared type can be, and its size, where known, within limits."""
        which = kind.WhichOneof("value")
        if which in ("sequence_type", "optional_type"):
            inner = getattr(kind, which).elem_type
            if inner.WhichOneof("value") is None:
                found = f"a {which.replace('_type', '')} of nothing"
                raise self._error(what, found, "the type of its elements")
            self._check_type(inner, what)
        elif which == "tensor_type":
            tensor = kind.tensor_type
            if tensor.elem_type not in BITS:
                raise self._error(what, type_name(tensor.elem_type), "a tensor data type of ONNX")
            count = 1
            if len(tensor.shape.dim) > attributes.RANK:
                found, needed = f"{len(tensor.shape.dim)} axes", f"at most {attributes.RANK}"
                raise self._error(what, found, needed)
            for dim in tensor.shape.dim:
                if dim.HasField("dim_value"):
                    if dim.dim_value == -1:  # How some exporters write "unknown".
                        dim.ClearField("dim_value")
                    elif dim.dim_value < 0:
                        raise self._error(what, f"a size of {dim.dim_value}", "0 or more")
                    else:
                        count *= dim.dim_value
            self._add_activation(what, count * BITS[tensor.elem_type] // 8)
        elif which is not None:
            raise self._unsupported(what, which.replace("_", " "), "a tensor")

    def _add_activation(self, what: str, size: int) -> None:
        self._activations += size
        if self._activations > self.limits.activation_bytes:
            raise LimitError(
                f"{self.source.name}: {what}",
                f"{size_text(self._activations)} of declared tensors with it",
                f"at most {size_text(self.limits.activation_bytes)} (Limits.activation_bytes)",
            )

    def _define(self, scope: Scope, name: str, what: str) -> None:
        if not name:
            raise self._error(what, "no name", "a name")
        if name in scope.names:
            raise self._error(what, "a second definition of that name", "each name defined once")
        scope.names.add(name)

    def _check_node(
        self,
        graph: onnx.GraphProto,
        node: onnx.NodeProto,
        index: int,
        scope: Scope,
        inside: str,
        depth: int,
    ) -> None:
        op, domain = node.op_type, node.domain
        what = f"node '{node.name or f'#{index}'}' ({op}){inside}"
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            needed = f"at most {self.limits.nodes} (Limits.nodes)"
            raise LimitError(self.source.name, f"more than {self.limits.nodes} nodes", needed)
        if self.nodes % 512 == 0 and time.monotonic() > self._deadline:
            needed = f"{self.limits.seconds:g} s at most (Limits.seconds)"
            raise LimitError(f"{self.source.name}: {what}", "the time used up", needed)
        if domain == "ai.onnx":
            domain = ""
        if domain not in self._opsets:
            shown = domain or "ai.onnx"
            raise self._error(what, f"domain '{shown}' without an opset import", "its version")
        inputs = list(node.input)
        constant = op != "Constant"
        for name in inputs:
            if not name:
                continue
            if not scope.defines(name):
                raise self._undefined(graph, node, what, name)
            constant = constant and scope.is_constant(name)
        kinds, values = self._check_attributes(node, scope, what, depth)
        weights = tuple(scope.weight(name) for name in inputs)
        known = attributes.schema(op, self._opsets[domain], domain)
        problem = known.problem(node, kinds) if known else None
        problem = problem or attributes.check(op, values, weights, len(node.output))
        if problem:
            raise self._error(f"{what}: {problem.what}", problem.found, problem.needed)
        constant = bool(constant and inputs) or op in _SHAPE_OPS
        divides = op in ("Div", "Mod") and any(map(scope.is_constant, inputs))
        sized = op in RANK_INPUTS or op in AXIS_INPUTS or op == "Slice"
        self.folds = self.folds or constant or divides or sized
        if op in _NO_EMPTY_TAIL and inputs and not inputs[-1]:
            while node.input and not node.input[-1]:
                del node.input[-1]
            self.rewritten = self.rewritten or what
        for name in node.output:
            if name:
                self._define(scope, name, f"{what}: output '{name}'")
                if constant or op == "Constant":
                    scope.constants.add(name)
        if op == "Constant" and domain == "":
            self._note_constant(node, scope, what)

    def _note_constant(self, node: onnx.NodeProto, scope: Scope, what: str) -> None:
        given = [a for a in node.attribute if a.name.startswith(("value", "sparse_value"))]
        if len(given) != 1:
            found = ", ".join(a.name for a in given) or "no value"
            raise self._error(what, found, "exactly one value")
        if given[0].type == A.TENSOR and node.output:
            scope.weights[node.output[0]] = tuple(given[0].t.dims)

    def _check_attributes(
        self, node: onnx.NodeProto, scope: Scope, what: str, depth: int
    ) -> tuple[dict[str, int], dict[str, Any]]:
        """The attributes' kinds and values by name, their tensors and subgraphs checked."""
        kinds: dict[str, int] = {}
        values: dict[str, Any] = {}
        for attribute in node.attribute:
            name, kind = attribute.name, attribute.type
            if name in kinds:
                raise self._error(what, f"attribute '{name}' twice", "each attribute once")
            kinds[name] = kind
            if attribute.ref_attr_name:
                found = f"a reference to '{attribute.ref_attr_name}' outside a function"
                raise self._error(f"{what}: attribute '{name}'", found, "a value")
            if kind in _VALUES:
                values[name] = _VALUES[kind](attribute)
                if kind in (A.STRING, A.STRINGS) and not node.domain:
                    self._check_utf8(attribute, f"{what}: attribute '{name}'")
            elif kind in (A.TENSOR, A.TENSORS):
                for tensor in (attribute.t,) if kind == A.TENSOR else attribute.tensors:
                    self.tensors.check(tensor, f"{what}: attribute '{name}'")
            elif kind in (A.GRAPH, A.GRAPHS):
                if scope.fixed > 1:
                    # ONNX Runtime 1.31 ends with SIGSEGV where it resolves both Ifs at load.
                    found = "a subgraph inside two Ifs whose conditions are constants"
                    raise self._unsupported(what, found, "the branches taken, without those Ifs")
                fixed = scope.fixed
                if node.op_type == "If" and node.input and scope.is_constant(node.input[0]):
                    fixed += 1
                for graph in (attribute.g,) if kind == A.GRAPH else attribute.graphs:
                    within = f" in {name} of {what}"[:400]
                    self._check_graph(graph, scope, within, depth + 1, fixed)
            elif kind in (A.TYPE_PROTO, A.TYPE_PROTOS):
                types = (attribute.tp,) if kind == A.TYPE_PROTO else attribute.type_protos
                for entry in types:
                    self._check_type(entry, f"{what}: attribute '{name}'")
            elif kind in _SPARSE:
                raise self._unsupported(f"{what}: attribute '{name}'", "a sparse tensor", "a dense")
            else:
                raise self._error(f"{what}: attribute '{name}'", f"type {kind}", "a known type")
        return kinds, values

    def _check_utf8(self, attribute: onnx.AttributeProto, what: str) -> None:
        for text in (attribute.s, *attribute.strings):
            try:
                text.decode()
            except UnicodeDecodeError:
                raise self._error(what, f"{text[:40]!r}", "text in UTF-8") from None

    def _undefined(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, what: str, name: str
    ) -> FastganError:
        """What to say of an input that nothing before the node defines."""
        producers = {output: other for other in graph.node for output in other.output if output}
        if name not in producers:
            found = "no node, input or weight of that name"
            return self._error(f"{what}: input '{name}'", found, "one")
        if reaches(producers, producers[name], set(node.output)):
            return self._error(f"{what}: input '{name}'", "a cycle", "a graph without cycles")
        found = f"a use before its definition by '{producers[name].name}'"
        return self._error(f"{what}: input '{name}'", found, "nodes in order of use")

    def _error(self, what: str, found: str, needed: str, instead: str = "") -> FastganError:
        return self.source.error(found, needed, instead, at=what)

    def _unsupported(self, what: str, found: str, needed: str) -> FastganError:
        return UnsupportedError(f"{self.source.name}: {what}", found, needed)
