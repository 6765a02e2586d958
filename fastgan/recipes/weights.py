"""Weights in model files: a network goes on from them, and a file stores them in half.

    python -m fastgan.recipes.weights MODEL.onnx ...

In half, each large float32 initializer becomes a float16 one behind a Cast, which is folded at
load: a file of half the size, computed in fp32 as before. A weight so changes by at most 1 part in
2048; what that costs, `fastgan evaluate` measures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from fastgan import models
from fastgan.errors import ArgumentError, ModelFileError

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


def load(network: nn.Module, source: str) -> None:
    """Put the weights of a shipped model, or of a file that a recipe exported, into `network`.

    They go by the names that the exporter keeps, those that are stored in half too.

    Raises:
        ArgumentError: there is no such model, or its weights are those of another network.
    """
    import onnx_ir

    file = models.path(source) if source in models.names() else Path(source)
    if not file.is_file():
        shipped = ", ".join(models.names())
        raise ArgumentError("start", repr(source), f"a model file, or one of {shipped}")
    stored = onnx_ir.load(file).graph.initializers
    weights = {}
    for name, wanted in network.state_dict().items():
        tensor = stored.get(name) or stored.get(name + SUFFIX)
        value = tensor.const_value if tensor is not None else None
        found = "no such weight" if value is None else str(tuple(value.shape.numpy()))
        if value is None or found != str(tuple(wanted.shape)):
            needed = f"{name} {tuple(wanted.shape)}: the network of these settings"
            raise ArgumentError(f"the weights of {source}", found, needed)
        weights[name] = torch.from_numpy(value.numpy().astype(np.float32))
    network.load_state_dict(weights)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        halve(Path(argument))
