"""ONNX's own test cases through fastgan and through ONNX Runtime, and what docs/operators.md says.

python -m fastgan.measure.conformance docs/operators.md
"""

from __future__ import annotations

import collections
import functools
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from fastgan import onnx_backend, ops
from fastgan.errors import FastganError, LimitError, one_line

#: Cases whose expected output is one draw of random numbers: ONNX itself only asks for its shape.
RANDOM = ("test_bernoulli",)
#: Cases with zeros that are a sum of terms up to 54, so that what is expected is one library's
#: rounding (1.5e-6): these may be off by an ulp of the largest term, not by the usual 1e-7.
CANCELLING = ("test_dft_inverse", "test_dft_inverse_opset19")
_ULP_OF_TERMS = 54 * 2.0**-23

#: Cases that expect what neither PyTorch nor ONNX Runtime computes: the last of 2.4 elements at the
#: last of the input, where two are made. The files that exporters write mean the last of the two.
OTHERWISE = (
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One of ONNX's test cases.

    Attributes:
        op: the operator that it is about, "" for a network.
        model: the serialised ModelProto.
        data: pairs of inputs and expected outputs.
        rtol, atol: ONNX's own tolerances.
        types: the element types of its inputs and outputs, in ONNX's names.
    """

    name: str
    kind: str
    op: str
    model: bytes
    data: tuple[tuple[list[Any], list[Any]], ...]
    rtol: float
    atol: float
    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case.

    Attributes:
        result: "passed", "refused" with the reason, or "failed" with the difference.
        bound: whether inputs were bound as constants, because shapes depend on their values.
    """

    case: Case
    result: str
    reason: str = ""
    bound: bool = False


@functools.cache
def node_cases() -> tuple[Case, ...]:
    """Every node case; one of an operator's expanded function counts for that operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about the extremes that the cases try
        tests = load_model_tests(kind="node")
    models = {test.name: test.model for test in tests if test.model is not None}
    single = {n: m.graph.node[0].op_type for n, m in models.items() if len(m.graph.node) == 1}
    return tuple(
        Case(
            test.name,
            "node",
            single.get(test.name.split("_expanded")[0], ""),
            models[test.name].SerializeToString(),
            tuple((_arrays(i), _arrays(o)) for i, o in test.data_sets or ()),
            test.rtol,
            _ULP_OF_TERMS if test.name in CANCELLING else test.atol,
            types(models[test.name]),
        )
        for test in tests
        if test.name in models
    )


def run_fastgan(case: Case) -> Outcome:
    """The case on `fastgan.onnx_backend`."""
    try:
        representation = onnx_backend.prepare(onnx.ModelProto.FromString(case.model))
        results = [representation.run(inputs) for inputs, _ in case.data]
    except FastganError as error:
        return Outcome(case, "refused", _reason(error))
    except Exception as error:  # whatever it is: the case fails, the others go on
        return Outcome(case, "failed", f"{type(error).__name__}: {error}")
    return replace(_compared(case, results), bound=bool(representation.bound))


def run_onnxruntime(case: Case) -> Outcome:
    """The case on ONNX Runtime's CPU provider, with its default options."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            case.model, options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_inputs()]
        results = [
            session.run(None, dict(zip(names, inputs, strict=True))) for inputs, _ in case.data
        ]
    except Exception as error:  # ONNX Runtime's errors have no common base
        return Outcome(case, "refused", str(error))
    return _compared(case, results)


def _compared(case: Case, results: Sequence[Sequence[Any]]) -> Outcome:
    if case.name.startswith(RANDOM):
        case = _shapes_only(case)
        results = [[np.zeros_like(array) for array in outputs] for outputs in results]
    try:
        for outputs, (_, expected) in zip(results, case.data, strict=True):
            Runner.assert_similar_outputs(expected, list(outputs), case.rtol, case.atol)
    except (AssertionError, TypeError) as error:
        return Outcome(case, "failed", one_line(error))
    return Outcome(case, "passed")


def _shapes_only(case: Case) -> Case:
    return replace(
        case, data=tuple((i, [np.zeros_like(array) for array in o]) for i, o in case.data)
    )


def _arrays(values: Iterable[Any]) -> list[Any]:
    return [onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]


def types(model: onnx.ModelProto) -> frozenset[str]:
    names = set()
    for value in (*model.graph.input, *model.graph.output):
        which = value.type.WhichOneof("value")
        if which == "tensor_type":
            names.add(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type))
        else:
            names.add(str(which))
    return frozenset(names)


def _reason(error: FastganError) -> str:
    if isinstance(error, LimitError):
        return f"{error.found} (limit: {error.needed})"
    return f"{error.found}; needed {error.needed}"


# docs/operators.md ----------------------------------------------------------------------------


_HEAD = """\
# Operators

Made by `python -m fastgan.measure.conformance` with onnx {onnx} and ONNX Runtime {runtime}; \
do not edit.

The cases are ONNX's own (`onnx.backend.test`), on `fastgan.onnx_backend`. A model with an op that \
is not
listed, or in a way that is restricted, runs whole on ONNX Runtime, and says so.

| cases | passed | refused | failed | ONNX Runtime CPU passes |
|---|---|---|---|---|"""

_RULES = """
An input marked *constant* must be known when a plan is made: a constant, or computed from shapes.
The backend binds such an input's values when it makes a plan: so in {bound} of the cases passed. \
Element types
are float32, float64, float16, bfloat16, the integers but uint64, and bool, unless a line says \
otherwise; float16,
bfloat16 and float64 are computed in the precision that a model is loaded with, which is float32 \
or less: float64 is only
kept by `backend="ort"`. ONNX Runtime refuses opsets that are newer
than itself, so that it counts low on what they changed.

| operator | from opset | cases passed | restrictions |
|---|---|---|---|"""


def report(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> str:
    """docs/operators.md, from the same cases on fastgan and on ONNX Runtime."""
    by_op: dict[str, list[Outcome]] = collections.defaultdict(list)
    for outcome in ours:
        by_op[outcome.case.op].append(outcome)
    runtime = {outcome.case.name: outcome.result == "passed" for outcome in theirs}
    registered: dict[str, list[ops.Op]] = collections.defaultdict(list)
    for op in ops.all_ops():
        if op.domain == "":
            registered[op.name].append(op)
    names = sorted({*registered, "If", "Loop"})
    covered = [o for o in ours if o.case.op in names]
    bound = sum(o.bound and o.result == "passed" for o in ours)
    plain = [o for o in covered if o.case.types <= PLAIN_TYPES]
    lines = [
        _HEAD.format(onnx=onnx.__version__, runtime=version("onnxruntime")),
        _total("all", ours, runtime),
        _total("of the operators below", covered, runtime),
        _total("of these, in float32, float16, int64 and bool alone", plain, runtime),
        _RULES.format(bound=bound),
    ]
    for name in names:
        outcomes = by_op[name]
        passed = sum(o.result == "passed" for o in outcomes)
        since = ", ".join(str(op.since) for op in registered[name]) or "1"
        notes = _notes(registered[name], outcomes)
        lines.append(f"| {name} | {since} | {passed}/{len(outcomes)} | {'; '.join(notes)} |")
    missing = sorted({o.case.op for o in ours if o.case.op and o.case.op not in names})
    lines += ["", "Not covered: " + ", ".join(missing) + "."]
    return "\n".join(lines) + "\n"


PLAIN_TYPES = frozenset(("FLOAT", "FLOAT16", "INT64", "BOOL"))

#: What a refusal needs to be said of an operator that no outcome shows.
_SAID = {
    "If": "the condition must be a constant",
    "Loop": "trip count and condition must be constants; unrolled",
    "GridSample": "2-D and 3-D",
    "Dropout": "not in training mode",
    "BatchNormalization": "before opset 14 inference only",
    "ConvTranspose": "`auto_pad` SAME_* makes size times stride; ONNX Runtime less, of kernels"
    " below their stride",
    "Resize": "`align_corners` of the elements that are made, as in PyTorch and ONNX Runtime; two"
    " cases have a fraction more",
    "MaxPool": "NaN in a window is its maximum; ONNX Runtime passes over it",
}


def _total(what: str, outcomes: Sequence[Outcome], runtime: dict[str, bool]) -> str:
    count = collections.Counter(o.result for o in outcomes)
    other = sum(runtime[o.case.name] for o in outcomes)
    return (
        f"| {what}: {len(outcomes)} | {count['passed']} | {count['refused']} | {count['failed']}"
        f" | {other} |"
    )


#: What is more than that.
_BUT = {"NonZero": ", or a mask at whose places ScatterND puts values (`y[mask] = values`)"}


def _notes(versions: Sequence[ops.Op], outcomes: Sequence[Outcome]) -> list[str]:
    notes = []
    if versions:
        newest = versions[-1]
        if newest.dynamic:
            notes.append("every input *constant*" + _BUT.get(newest.name, ""))
        elif newest.host:
            schema = onnx.defs.get_schema(newest.name)
            inputs = [schema.inputs[i].name for i in sorted(newest.host) if i < len(schema.inputs)]
            notes.append(", ".join(f"`{name}`" for name in inputs) + " *constant*")
        if newest.random:
            notes.append("numbers from the engine's own seed")
    if versions and versions[0].name in _SAID:
        notes.append(_SAID[versions[0].name])
    refusals = sorted({_short(o.reason) for o in outcomes if o.result == "refused"})
    return [*notes, f"refused: {', '.join(refusals)}"] if refusals else notes


def _short(reason: str) -> str:
    """A refusal without the shapes of that one case."""
    if "(" in reason and reason.startswith("inputs ["):
        return reason[reason.rindex("] (") + 3 :].split("); needed")[0]
    return reason.split("; needed")[0].removeprefix("element type ")


def main() -> None:
    """Write docs/operators.md, or the file named on the command line."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/operators.md")
    cases = node_cases()
    ours = [run_fastgan(case) for case in cases]
    theirs = [run_onnxruntime(case) for case in cases]
    path.write_text(report(ours, theirs), encoding="utf-8")
    for outcome in ours:
        if outcome.result == "failed":
            print(outcome.case.name, outcome.reason)


if __name__ == "__main__":
    main()
