"""Random graphs at several batches: what ONNX Runtime makes of all samples together."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

import fastgan
from fastgan.errors import FastganError
from tests.unit.plan.batch_graphs import Maker

#: Graphs of each kind; many more of them take the place of these for a nightly run.
COUNT = int(os.environ.get("FASTGAN_BATCH_GRAPHS", "40"))
#: What a graph may have been traced at: a Reshape may say the batch times an axis.
SIZES = range(1, 9)
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def outcome(maker: Maker, data: bytes, x: np.ndarray) -> str:
    """What became of a graph; an assertion fails where it is not what it should be."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def reference(rows: np.ndarray) -> np.ndarray | None:
        try:
            return session.run(None, {"x": rows})[0]
        except Exception:  # a batch that the file does not take
            return None

    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    made = g.signature.made
    kinds = set()
    for n in (1, 2, 3, 4, 6):
        whole = reference(x[:n])
        try:
            got = g.run({"x": x[:n]})["y"].numpy()
        except (FastganError, RuntimeError):  # an index beyond an axis is the library's error
            assert whole is None, n
            kinds.add("refused")
            continue
        if whole is not None and got.shape == whole.shape and np.allclose(got, whole, **CLOSE):
            kinds.add("whole")
        else:
            # What was traced runs in turns, whose samples are each other's strangers.
            assert maker.traced, n
            assert made.apart, n
            frozen = g.signature.frozen_batch
            turns = [in_turns(reference, x[:n], size) for size in ([frozen] if frozen else SIZES)]
            assert any(t is not None and np.allclose(got, t, **CLOSE) for t in turns), n
            kinds.add("turns")
        if made.apart and g.signature.frozen_batch is None:
            for i in range(n):
                alone = g.run({"x": x[i : i + 1]})["y"].numpy()
                assert np.allclose(got[i : i + 1], alone, **CLOSE), (n, i)
            kinds.add("apart")
    return " ".join(sorted(kinds))


def in_turns(
    reference: Callable[[np.ndarray], np.ndarray | None], rows: np.ndarray, size: int
) -> np.ndarray | None:
    """What a file that takes `size` samples makes of these, the last turn filled up."""
    filled = np.concatenate([rows, *[rows[-1:]] * (-len(rows) % size)])
    parts = [reference(filled[i : i + size]) for i in range(0, len(filled), size)]
    if any(part is None or part.shape[:1] != (size,) for part in parts):
        return None
    return np.concatenate([part for part in parts if part is not None])[: len(rows)]


@pytest.mark.parametrize("tracing", [False, True], ids=["open", "traced"])
@pytest.mark.parametrize("seed", range(COUNT))
def test_together_and_one_by_one(seed: int, tracing: bool) -> None:
    maker = Maker(seed, tracing)
    data = maker.make(3 + seed % 9)
    x = np.random.default_rng(seed).standard_normal((12, *sample_shape(data))).astype(np.float32)
    outcome(maker, data, x)


def sample_shape(data: bytes) -> list[int]:
    """The sizes of one sample of the input."""
    dims = onnx.ModelProto.FromString(data).graph.input[0].type.tensor_type.shape.dim
    return [dim.dim_value for dim in dims[1:]]
