"""A network that goes on from a model file: the weights by the names that the exporter keeps.

Those that `halve` stored in half are taken as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from fastgan import models
from fastgan.errors import ArgumentError
from fastgan.recipes.halve import SUFFIX


def load(network: nn.Module, source: str) -> None:
    """Put the weights of a shipped model, or of a file that a recipe exported, into `network`.

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
