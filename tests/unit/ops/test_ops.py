"""Every registered op on ONNX's own node cases, and its `infer` rule on the same.

Here an op's function runs alone, in the element type of the case, without a plan around it.
"""

from __future__ import annotations

import collections
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.backend.test.runner import Runner
from torch import Tensor

from fastgan import ops
from fastgan.errors import UnsupportedError
from fastgan.measure.conformance import OTHERWISE, RANDOM, Case, node_cases
from fastgan.ops.nodes import bind_host_inputs, resolve, to_meta, to_onnx, to_torch
from fastgan.ops.registry import Op, register

#: Registered ops that ONNX has no case for; `test_ops_*.py` hold theirs.
WITHOUT_CASES = {
    "GlobalLpPool",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
#: What torch has no element type for, or computes nothing in, as `resolve` and the rules say.
FOREIGN = ("FLOAT4", "FLOAT8", "INT2", "INT4", "UINT2", "UINT4", "STRING", "_type", "UINT64")


pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def cases_by_op() -> dict[str, list[Case]]:
    by_op = collections.defaultdict(list)
    for case in node_cases():
        if case.op and "_expanded" not in case.name:
            by_op[case.op].append(case)
    return by_op


def tensors(arrays: list[Any]) -> list[Tensor | None]:
    """CPU tensors of their own, since op functions may not change what they get."""
    return [to_torch(ir.Tensor(np.array(array))) for array in arrays]


def prepare(case: Case, inputs: list[Any]) -> tuple[Op, ir.Node, list[Any], dict[str, Any]]:
    """The op of a case with its arguments."""
    model = ir.from_proto(onnx.ModelProto.FromString(case.model))
    (node,) = list(model.graph)
    op, attributes = resolve(node, model.opset_imports)
    values = dict(zip((value.name for value in model.graph.inputs), tensors(inputs), strict=True))
    given = [None if value is None else values[value.name] for value in node.inputs]
    return op, node, bind_host_inputs(node, op, given), attributes


def as_tuple(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def is_foreign(case: Case) -> bool:
    return any(text in name for name in case.types for text in FOREIGN)


@pytest.mark.parametrize("name", sorted({op.name for op in ops.all_ops() if op.domain == ""}))
def test_node_cases(name: str) -> None:
    cases = [c for c in cases_by_op()[name] if not is_foreign(c) and c.name not in OTHERWISE]
    if not cases:
        assert name in WITHOUT_CASES, f"{name} has no ONNX node case and no variant here"
        pytest.skip(f"ONNX has no node case of {name}; see the other test_ops_*.py")
    wrong = [f"{case.name}: {text}" for case in cases if (text := difference(case))]
    assert not wrong, "\n".join(wrong)


def difference(case: Case) -> str:
    """What is wrong with an op on a case, or nothing."""
    for inputs, expected in case.data:
        op, node, arguments, attributes = prepare(case, inputs)
        before = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
        try:
            results = as_tuple(op.function(*arguments, **attributes))
        except NotImplementedError as error:
            return unless_refused(op, arguments, attributes, error)
        for old, new in zip(before, arguments, strict=True):
            if isinstance(old, Tensor) and not torch.equal(old.nan_to_num(), new.nan_to_num()):
                return "the function changed its input"
        outputs = [r for v, r in zip(node.outputs, results, strict=False) if v.name]
        if text := misinferred(op, arguments, attributes, results):
            return text
        if case.name.startswith(RANDOM):
            continue
        try:
            arrays = [to_onnx(tensor, "").numpy() for tensor in outputs]
            Runner.assert_similar_outputs(expected, arrays, case.rtol, case.atol)
        except AssertionError as error:
            return " ".join(str(error).split())[:300]
    return ""


def unless_refused(op: Op, arguments: list[Any], attributes: dict[str, Any], error: Any) -> str:
    """A case that torch cannot compute must be refused when a plan is made, by the `infer` rule."""
    unsigned = {torch.uint16, torch.uint32, torch.uint64}
    if not op.unsigned and any(isinstance(a, Tensor) and a.dtype in unsigned for a in arguments):
        return ""
    try:
        op.infer(*arguments, **attributes)
    except NotImplementedError:
        return ""
    return f"refused when it runs, but not when it is planned: {error}"


def misinferred(
    op: Op, arguments: list[Any], attributes: dict[str, Any], results: tuple[Tensor, ...]
) -> str:
    """Whether the `infer` rule says other shapes or dtypes than the results have."""
    if op.dynamic and op.infer is op.function:
        return ""
    given = arguments if op.dynamic else [to_meta(argument) for argument in arguments]
    inferred = as_tuple(op.infer(*given, **attributes))
    said = [(tuple(t.shape), t.dtype) for t in inferred]
    real = [(tuple(t.shape), t.dtype) for t in results]
    return "" if said == real else f"infer says {said}, the result is {real}"


def test_no_op_is_registered_twice() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register("Relu", since=1)(lambda x: x)


def test_versions_resolve_by_opset() -> None:
    assert ops.find("", "Softmax", 12) is not ops.find("", "Softmax", 13)
    assert ops.find("", "Softmax", 13) is ops.find("", "Softmax", 99)
    assert ops.find("", "Gelu", 19) is None
    assert ops.find("", "NoSuchOp", 19) is None


def test_unknown_attribute_is_refused() -> None:
    node = ir.Node("", "Relu", [ir.Value(name="x")], [ir.AttrInt64("slope", 1)])
    with pytest.raises(UnsupportedError, match="attribute 'slope' of Relu"):
        resolve(node, {"": 17})


def schema_versions() -> list[tuple[str, int]]:
    """Every (op, opset) that ONNX has changed and that is registered, from opset 9 on."""
    newest = onnx.defs.onnx_opset_version()
    names = {op.name for op in ops.all_ops() if op.domain == ""}
    return [
        (schema.name, max(9, schema.since_version))
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.name in names and schema.since_version <= newest
    ]


def test_every_attribute_of_every_opset_is_known() -> None:
    """From opset 9 on an op takes each attribute that ONNX's schema names, or has a reason."""
    not_taken = {
        ("Constant", "sparse_value"),  # sparse tensors are refused when a file is read
        ("Constant", "value_string"),
        ("Constant", "value_strings"),
    }
    missing = []
    for name, opset in schema_versions():
        op = ops.find("", name, opset)
        if op is None:
            continue
        schema = onnx.defs.get_schema(name, opset)
        unknown = set(schema.attributes) - op.attributes
        missing += [(name, opset, a) for a in sorted(unknown) if (name, a) not in not_taken]
    assert not missing


def test_every_host_input_is_one_of_the_schema() -> None:
    for op in ops.all_ops():
        if op.domain == "" and op.name != "Upsample":  # which ended with opset 9
            assert max(op.host, default=-1) < onnx.defs.get_schema(op.name).max_input
