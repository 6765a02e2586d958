"""What a model's inputs and outputs are, by its file alone: its metadata, and else a guess."""

from __future__ import annotations

import onnx_ir as ir

from fastgan.model.guess import guess
from fastgan.model.guess.ranges import complete
from fastgan.model.signature import Signature
from fastgan.model.stated import correct


def of(model: ir.Model) -> Signature:
    """What the inputs and outputs of `model` are: what its metadata says, and else a guess.

    A graph input that is also an initializer has a value already, and is not an input here.

    Raises:
        ModelFileError: the metadata is malformed, contradicts the graph, or is of a later version;
            or an input or output is not a tensor.
    """
    described = correct(guess(model.graph), model)
    return complete(model.graph, described)
