"""Weights stored in half: a model file of half the size, computed in fp32 as before.

    python -m fastgan.recipes.halve MODEL.onnx ...

Each large float32 initializer becomes a float16 one behind a Cast, which is folded at load. A
weight so changes by at most 1 part in 2048; what that costs, `fastgan evaluate` measures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastgan.errors import ModelFileError

SUFFIX = ".half"  # of the name of a weight that is stored so
#: Smaller tensors stay as they are: biases, scales, shapes.
_LEAST = 1024


def halve(path: Path) -> None:
    """Store the weights of the model at `path` in half, in place.

    Raises:
        ModelFileError: a weight does not fit float16.
    """
    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _LEAST:
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelFileError(f"{path}: {tensor.name}", "a weight over 65504", "float16 weights")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + SUFFIX))
        casts.append(helper.make_node("Cast", [name + SUFFIX], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        halve(Path(argument))
