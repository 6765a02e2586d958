"""ONNX's backend interface on the `torch` backend: `onnx.backend.test` runs against it.

    representation = fastgan.onnx_backend.prepare(model)      # an onnx.ModelProto
    outputs = representation.run([x])                         # NumPy arrays in and out

A plan is made for the shapes of the inputs that `run` gets, and kept. An input whose values decide
a shape (the second one of Reshape) is bound as a constant of the plan; `Representation.bound` names
them. Floating-point tensors are computed in float32, as `fastgan.load` does on a CPU, or in float64
where the model has any; outputs come in the model's own types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.backend.base import Backend, BackendRep, namedtupledict
from onnx.helper import make_graph, make_model, make_opsetid, make_tensor_value_info
from torch import Tensor

from fastgan import ops
from fastgan.engine import Target
from fastgan.engine.library import backend as torch_backend
from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import PlanExecutable
from fastgan.errors import ArgumentError, UnsupportedError
from fastgan.model.file import read
from fastgan.ops.nodes import to_onnx, to_torch
from fastgan.plan import Plan, make

Array = np.ndarray[Any, Any]


class Representation(BackendRep):
    """A model that is ready to run; plans are made for the inputs that come.

    Attributes:
        bound: names of the inputs that become constants of a plan, because shapes depend on
            their values.
        plans: how many plans have been made.
    """

    def __init__(self, model: onnx.ModelProto, device: torch.device) -> None:
        super().__init__()
        self._proto = model
        self._device = device
        checked = read(model.SerializeToString()).model
        graph = checked.graph
        self._inputs = [v.name or "" for v in graph.inputs if v.name not in graph.initializers]
        self._outputs = [value.name or "" for value in graph.outputs]
        self.bound = frozenset(value_inputs(checked)).intersection(self._inputs)
        self._executables: dict[Any, PlanExecutable] = {}

    @property
    def plans(self) -> list[Plan]:
        """The plans made so far."""
        return [executable.plan for executable in self._executables.values()]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model on arrays, by position or by name.

        Returns:
            The outputs, by position and by name.

        Raises:
            ArgumentError: not as many inputs as the model has.
            UnsupportedError: what the model needs is not covered.
        """
        names = dict.fromkeys(self._inputs)
        given = inputs if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=False))
        if set(given) != set(self._inputs) or len(inputs) != len(self._inputs):
            raise ArgumentError("inputs", f"{len(inputs)} of them", f"{self._inputs}")
        arrays = {name: _array(name, value) for name, value in given.items()}
        data = {name: _tensor(a) for name, a in arrays.items() if name not in self.bound}
        values = {name: arrays[name] for name in self.bound}
        executable = self._executable(data, values)
        results, buffers = executable(data), executable.plan.buffers
        outputs = [
            to_onnx(results[name].to("cpu", buffers[name].dtype), name).numpy()
            for name in self._outputs
        ]
        return namedtupledict("Outputs", self._outputs)(*outputs)

    def _executable(
        self, data: Mapping[str, Tensor], values: Mapping[str, Array]
    ) -> PlanExecutable:
        shapes = {name: tuple(tensor.shape) for name, tensor in data.items()}
        key = (
            *sorted(shapes.items()),
            *((name, a.dtype, a.shape, a.tobytes()) for name, a in sorted(values.items())),
        )
        if key not in self._executables:
            model = read(_bind(self._proto, values).SerializeToString())
            self._executables[key] = _compile(model.model, shapes, self._device)
        return self._executables[key]


class FastganBackend(Backend):
    """ONNX's interface to a backend: prepare, run_model, run_node."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Representation:
        """Read and check a model.

        Raises:
            FastganError: the model is not sound, or uses what is not covered.
        """
        return Representation(model, _device(device))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node on arrays, one for each distinct input.

        `opset_version` is the newest one by default.
        """
        version = int(kwargs.get("opset_version", onnx.defs.onnx_opset_version()))
        names = list(dict.fromkeys(name for name in node.input if name))
        described = [
            make_tensor_value_info(name, ir.DataType.from_numpy(np.asarray(a).dtype), None)
            for name, a in zip(names, inputs, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = make_graph([node], "node", described, outputs)
        model = make_model(graph, opset_imports=[make_opsetid(node.domain, version)])
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """CPU always; CUDA where torch has a usable one."""
        return device.startswith("CPU") or (device.startswith("CUDA") and torch.cuda.is_available())


prepare = FastganBackend.prepare
run_model = FastganBackend.run_model
run_node = FastganBackend.run_node
supports_device = FastganBackend.supports_device


def value_inputs(model: ir.Model) -> set[str]:
    """Names of the graph inputs whose values, not only shapes, decide shapes in `model`."""
    needed: set[ir.Value] = set()
    _trace(model.graph, model.opset_imports, needed)
    return {value.name or "" for value in model.graph.inputs if value in needed}


def _trace(graph: ir.Graph, opsets: Mapping[str, int], needed: set[ir.Value]) -> None:
    """Add to `needed` what has to be known, from the last node of `graph` to the first."""
    for node in reversed(graph):
        op = ops.find(node.domain, node.op_type, node.version or opsets.get(node.domain, 1))
        wanted = not needed.isdisjoint(node.outputs)
        if op is not None and op.name in ("Shape", "Size"):
            continue
        for index, value in enumerate(node.inputs):
            control = node.op_type == "If" or (node.op_type == "Loop" and index < 2)
            if value is not None and (
                wanted or control or (op is not None and (op.dynamic or index in op.host))
            ):
                needed.add(value)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                inner = attribute.as_graph()
                if wanted:
                    needed.update(inner.outputs)
                _trace(inner, opsets, needed)
                if not needed.isdisjoint(inner.inputs):
                    needed.update(value for value in node.inputs if value is not None)


def _compile(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], device: torch.device
) -> PlanExecutable:
    plan = make(model, shapes)
    types = {buffer.dtype for buffer in plan.buffers.values()}
    types |= {weight.dtype for weight in plan.weights.values()}
    opset = model.opset_imports.get("", 1)
    if torch.float64 in types:
        steps = [library.bind(step, plan.weights, opset, device, None) for step in plan.steps]
        return PlanExecutable(plan, steps, device, None)
    target = Target(device, "fp32")
    steps = [torch_backend.bind(plan, i, opset, target) for i in range(len(plan.steps))]
    return PlanExecutable(plan, steps, device, torch.float32)


def _bind(proto: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with some inputs as initializers."""
    bound = onnx.ModelProto()
    bound.CopyFrom(proto)
    kept = [value for value in bound.graph.input if value.name not in values]
    del bound.graph.input[:]
    bound.graph.input.extend(kept)
    for name, array in values.items():
        bound.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return bound


def _device(name: str) -> torch.device:
    if not supports_device(name):
        raise ArgumentError("device", repr(name), "'CPU', or 'CUDA' with a usable GPU")
    return torch.device(name.lower())


def _array(name: str, value: Any) -> Array:
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    if isinstance(value, list | tuple) or value is None:
        raise UnsupportedError(f"input {name!r}", "a sequence or nothing", "a tensor")
    array = np.asarray(value)
    if array.dtype.kind in "OUS":
        raise UnsupportedError(f"input {name!r}", "strings", "numbers or booleans")
    return array


def _tensor(array: Array) -> Tensor:
    return to_torch(ir.Tensor(np.ascontiguousarray(array).reshape(array.shape)))
