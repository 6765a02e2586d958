"""Random models by NNSmith: `python -m tests.trial.nnsmith --count 500 --out trial.jsonl`.

NNSmith (Liu et al., ASPLOS 2023; `pip install nnsmith`) writes valid models of 5 to 15 nodes of any
type and rank. Each runs in ONNX Runtime without optimisation and in ONNX's reference; where these
agree on finite values, fastgan must too, on every backend and at every batch that it accepts:
n samples of a file traced at b are what both make of them b at a time. It must raise nothing but
its own errors. A model counts as ill-conditioned, and not as compared, where ONNX
Runtime's own result moves as far once its float inputs, constants and what sums and functions make
are changed by one part in 10^7: of a file in float64 too, which fastgan computes in float32, where
a Round of a sigmoid of 1e-8 may go either way.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import torch

import fastgan
from fastgan.errors import FastganError
from tests.trial.records import Records, needs, said, tried

Arrays = dict[str, np.ndarray]

#: Of the largest magnitude in an output, or of 1; of what holds halves, which fastgan computes in
#: float32.
TOLERANCE, OF_HALVES = 2e-5, 2e-3
OTHER_FLOATS = dict.fromkeys(
    (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE), onnx.TensorProto.FLOAT
)
#: Backend and strictness.
WAYS = (("torch", False), ("ort", False), ("auto", False), ("auto", True))
#: How often floats are changed to see how far a result moves.
SHAKES = 8
#: What rounds by itself, beside what it makes of roundings before it.
ROUNDING = frozenset(
    (
        *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Div", "Elu"),
        *("Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Log", "LogSoftmax", "Mish", "Pow"),
        *("Reciprocal", "Selu", "Sigmoid", "Sin", "Sinh", "Softmax", "Softplus", "Softsign"),
        *("Sqrt", "Tan", "Tanh", "AveragePool", "BatchNormalization", "Conv", "ConvTranspose"),
        *("Einsum", "Gemm", "GlobalAveragePool", "InstanceNormalization", "LayerNormalization"),
        *("LpNormalization", "MatMul", "Mean", "ReduceL1", "ReduceL2", "ReduceLogSum"),
        *("ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Resize"),
    )
)
PACKAGES = ("nnsmith", "z3-solver", "onnx", "onnxruntime", "torch", "numpy")


class Maker:
    """Models by seed."""

    def __init__(self) -> None:
        # What NNSmith asks for is PyTorch's exporter of its day, and a private name of ONNX's.
        torch.onnx.export = partial(torch.onnx.export, dynamo=False)
        onnx._serialize = onnx.ModelProto.SerializeToString
        from nnsmith.abstract.extension import activate_ext
        from nnsmith.backends.factory import BackendFactory
        from nnsmith.materialize import Model
        from nnsmith.narrow_spec import auto_opset

        self._model = Model.init("onnx")
        runtime = BackendFactory.init("onnxruntime", target="cpu", optmax=False)
        self._ops = auto_opset(self._model, runtime)  # what ONNX Runtime has, by type
        activate_ext(opset=self._ops, factory=runtime)

    def make(self, seed: int) -> onnx.ModelProto:
        """A model of 5 to 15 nodes."""
        from nnsmith.graph_gen import model_gen

        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        generated = model_gen(
            opset=self._ops,
            method="symbolic-cinit",
            seed=seed,
            max_elem_per_tensor=4096,
            max_nodes=5 + seed % 11,
            timeout_ms=20000,
        )
        made = self._model.from_gir(generated.make_concrete())
        made.refine_weights()
        return made.onnx_model


def draw(model: onnx.ModelProto, rng: np.random.Generator, rows: int | None = None) -> Arrays:
    """Inputs, of `rows` samples where that is given."""
    inputs = {}
    for port in model.graph.input:
        shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        if rows is not None and shape:
            shape[0] = rows
        dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        if dtype.kind == "f":
            inputs[port.name] = np.asarray(rng.normal(1, 1, shape), dtype)
        else:
            inputs[port.name] = np.asarray(
                rng.integers(0, 2 if dtype.kind == "b" else 5, shape), dtype
            )
    return inputs


def nudged(inputs: Arrays, by: float, rng: np.random.Generator) -> Arrays:
    """Floats changed by about their last digit, up or down: a share that their type shows."""
    return {
        name: np.asarray(x * (1 + by * rng.choice((-1, 1), x.shape)) + by / 100, x.dtype)
        if x.dtype.kind == "f"
        else x
        for name, x in inputs.items()
    }


def distance(one: Arrays, other: Arrays) -> float:
    """The largest difference as a share of an output's magnitude; infinite where shapes differ."""
    worst = 0.0
    for name, a in one.items():
        b = np.asarray(other[name])
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
            return float("inf")
        if a.size:
            x, y = a.astype(np.float64), b.astype(np.float64)
            worst = max(worst, float(np.abs(x - y).max()) / max(1.0, float(np.abs(x).max())))
    return worst


def copied(
    model: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray], types: Mapping[int, int]
) -> onnx.ModelProto:
    """A model with other constants, and values of other types."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    attributes = [a for node in made.graph.node for a in node.attribute]
    for tensor in [*made.graph.initializer, *(a.t for a in attributes if a.HasField("t"))]:
        array = change(onnx.numpy_helper.to_array(tensor))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in _values(made):
        kind = value.type.tensor_type
        kind.elem_type = types.get(kind.elem_type, kind.elem_type)
    for node in made.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast":
                attribute.i = types.get(attribute.i, attribute.i)
    return made


def rounded(model: onnx.ModelProto, by: float, rng: np.random.Generator) -> onnx.ModelProto:
    """A model in which what rounds is off by about the last digit, up or down."""
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {v.name: v.type.tensor_type.elem_type for v in _values(inferred)}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.append(node)
        made = node.output[0] if node.op_type in ROUNDING else ""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kinds[made]) if kinds.get(made) else None
        if dtype is None or dtype.kind != "f":
            continue
        factor = np.array(1 + by * rng.choice((-1, 1)), dtype)
        exact, name = f"{made} exact", f"{made} off"
        model.graph.node[-1].output[0] = exact
        model.graph.initializer.append(onnx.numpy_helper.from_array(factor, name))
        model.graph.node.append(onnx.helper.make_node("Mul", [exact, name], [made]))
    return model


def in_single(array: np.ndarray) -> np.ndarray:
    """Any floats as float32."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _values(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.value_info, *model.graph.output]


class Subject:
    """A model, and what ONNX Runtime without optimisation makes of it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [port.name for port in model.graph.output]
        inferred = onnx.shape_inference.infer_shapes(model)
        kinds = {v.type.tensor_type.elem_type for v in _values(inferred)}
        halves = onnx.TensorProto.FLOAT16 in kinds
        self.tolerance, self.digit = (OF_HALVES, 1e-3) if halves else (TOLERANCE, 1e-7)
        self.is_single = not kinds & {*OTHER_FLOATS}

    def moved(self, expected: Arrays, inputs: Arrays, run: Callable[..., Arrays]) -> float:
        """How far a result moves at the most where every float is off by its last digit.

        run: `run` or `in_turns`, given a subject and inputs.
        """
        worst = 0.0
        for shake in range(SHAKES):
            rng = np.random.default_rng(shake)
            nudge = lambda x, rng=rng: nudged({"": x}, self.digit, rng)[""]  # noqa: E731
            near = Subject(rounded(copied(self.model, nudge, {}), self.digit, rng))
            worst = max(worst, distance(expected, run(near, nudged(inputs, self.digit, rng))))
        return worst

    def in_single(self, inputs: Arrays) -> tuple[Subject, Arrays]:
        """The same in float32, which is how fastgan computes any floats."""
        model = copied(self.model, in_single, OTHER_FLOATS)
        return Subject(model), {name: in_single(x) for name, x in inputs.items()}

    def run(self, inputs: Arrays) -> Arrays:
        """By ONNX Runtime."""
        made = self._session.run(None, inputs)
        return dict(zip(self.outputs, map(np.asarray, made), strict=True))

    def reference(self, inputs: Arrays) -> Arrays:
        """By ONNX's reference."""
        made = onnx.reference.ReferenceEvaluator(self.model).run(None, inputs)
        return dict(zip(self.outputs, map(np.asarray, made), strict=True))

    def in_turns(
        self,
        inputs: Arrays,
        rows: int,
        traced: int,
        split: set[str],
        run: Callable[[Arrays], Arrays] | None = None,
    ) -> Arrays:
        """Rows of samples, so many at a time, the last turn filled up with copies.

        run: what runs them; ONNX Runtime by default.
        """
        run = run or self.run
        if rows == traced:
            return run(inputs)
        parts: list[Arrays] = []
        for first in range(0, rows, traced):
            index = [min(i, rows - 1) for i in range(first, first + traced)]
            parts.append(run({k: x[index] if k in split else x for k, x in inputs.items()}))
        return {k: np.concatenate([part[k] for part in parts])[:rows] for k in self.outputs}


def compare(subject: Subject, seed: int) -> dict[str, Any]:
    """The outcome of one model: what became of it in each way."""
    inputs = draw(subject.model, np.random.default_rng(seed))
    expected, trouble = tried(lambda: subject.run(inputs))
    if expected is None:
        return {"outcome": "not compared", "why": f"ONNX Runtime: {trouble}"}
    checked, trouble = tried(lambda: subject.reference(inputs))
    comparable = ""
    if checked is None:
        comparable = f"ONNX's reference: {trouble}"
    elif not all(np.isfinite(x).all() for x in expected.values() if x.dtype.kind == "f"):
        comparable = "NaN or Inf"
    elif distance(expected, checked) > subject.tolerance:
        comparable = "ONNX Runtime and ONNX's reference differ"
    result: dict[str, Any] = {}
    for backend, strict in WAYS:
        said_of = one_way(subject, seed, inputs, expected, backend, strict)
        if comparable and not said_of.startswith("foreign"):
            said_of = f"not compared: {said_of}"
        elif said_of.startswith("wrong"):
            is_moved = is_as_far(said_of, subject, expected, inputs)
            if not (is_moved or subject.is_single):
                single, floats = subject.in_single(inputs)
                found = single.run(floats)
                said_of = one_way(single, seed, floats, found, backend, strict)
                is_moved = said_of.startswith("wrong") and is_as_far(said_of, single, found, floats)
            if is_moved:
                said_of, comparable = "not compared", "ill-conditioned"
        result[backend + " strict" * strict] = said_of
    kinds = {said_of.split(":")[0].split()[0] for said_of in result.values()}
    for outcome in ("foreign", "wrong"):
        if outcome in kinds:
            return {"outcome": outcome, **result}
    if comparable:
        return {"outcome": "not compared", "why": comparable, **result}
    return {"outcome": "agrees" if result["auto"] == "agrees" else "refused", **result}


def is_as_far(said_of: str, subject: Subject, expected: Arrays, inputs: Arrays) -> bool:
    """Whether ONNX Runtime's own result moves as far as one is off that is said to be wrong."""
    moved = subject.moved(expected, inputs, Subject.run)
    return float(said_of.split()[1]) <= 2 * moved


def one_way(
    subject: Subject, seed: int, inputs: Arrays, expected: Arrays, backend: str, strict: bool
) -> str:
    """What fastgan makes of a model in one way, in a line."""
    data = subject.model.SerializeToString()
    try:
        g = fastgan.load(data, device="cpu", backend=backend, strict=strict)
        worst = distance(expected, arrays(g.run(inputs)))
        if worst > subject.tolerance:
            return f"wrong {worst:.2g}"
        batch = at_batches(subject, seed, g)
        return batch or "agrees"
    except FastganError as error:
        return f"refused: {' '.join(str(error).split())[:200]}"
    except Exception as error:
        return f"foreign: {said(error)}"


def at_batches(subject: Subject, seed: int, g: fastgan.Generator) -> str:
    """Other batches than the traced one, where fastgan takes them; "" where all is well."""
    split = {port.name for port in g.signature.inputs if g.signature.has_rows(port)}
    shapes = [p.type.tensor_type.shape.dim for p in subject.model.graph.input if p.name in split]
    traced = {dims[0].dim_value for dims in shapes if dims}
    outputs = [p.type.tensor_type.shape.dim for p in subject.model.graph.output]
    rows_each = {dims[0].dim_value if dims else 0 for dims in outputs} == traced
    if len(traced) != 1 or not rows_each or not all(o.apart for o in g.signature.outputs):
        return ""
    for rows in (1, 3):
        fixed = draw(subject.model, np.random.default_rng(seed))
        drawn = draw(subject.model, np.random.default_rng(seed + 1), rows)
        inputs = {k: x if k in split else fixed[k] for k, x in drawn.items()}
        try:
            made = arrays(g.run(inputs))
        except FastganError:
            continue
        apart, trouble = tried(partial(subject.in_turns, inputs, rows, *traced, split))
        if apart is None:
            return f"wrong inf at a batch of {rows}: {trouble}"
        if not all(np.isfinite(x).all() for x in apart.values() if x.dtype.kind == "f"):
            continue
        turns = partial(subject.in_turns, inputs, rows, *traced, split, subject.reference)
        checked, _ = tried(turns)
        if checked is None or distance(apart, checked) > subject.tolerance:
            continue
        worst = distance(apart, made)
        if worst <= subject.tolerance:
            continue
        turned = partial(Subject.in_turns, rows=rows, traced=min(traced), split=split)
        if worst > 2 * subject.moved(apart, inputs, turned):
            return f"wrong {worst:.2g} at a batch of {rows}"
    return ""


def arrays(made: dict[str, torch.Tensor]) -> Arrays:
    """Tensors as arrays."""
    return {name: x.numpy() for name, x in made.items()}


def main() -> None:
    """See the module."""
    needs("nnsmith", "pip install nnsmith, in an environment of its own beside fastgan's packages")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500, help="models to generate")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, default=Path("nnsmith.jsonl"), help="a line for each")
    parser.add_argument("--keep", type=Path, help="a folder for the models that fail")
    parser.add_argument("--summary", type=Path, help="a JSON file of all of it")
    options = parser.parse_args()
    if "PYTHONHASHSEED" not in os.environ:  # which NNSmith's choices hang on
        os.environ["PYTHONHASHSEED"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "tests.trial.nnsmith", *sys.argv[1:]])
    torch.set_num_threads(1)
    onnxruntime.set_default_logger_severity(4)
    maker, records = Maker(), Records(options.out)
    seeds = range(options.first, options.first + options.count)
    for seed in records.cases(seeds, "models"):
        model, trouble = tried(partial(maker.make, seed))
        subject, more = (None, trouble) if model is None else tried(partial(Subject, model))
        if subject is None:
            records.add(
                str(seed), outcome="not generated" if model is None else "not compared", why=more
            )
            continue
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            onnx.save(model, options.keep / f"{seed}.onnx")
        result = compare(subject, seed)
        records.add(str(seed), ops=[node.op_type for node in model.graph.node], **result)
        if options.keep and result["outcome"] not in ("foreign", "wrong", "refused"):
            (options.keep / f"{seed}.onnx").unlink()
    sys.exit(0 if records.finish(PACKAGES, options.summary) else 1)


if __name__ == "__main__":
    main()
