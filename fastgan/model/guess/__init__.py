"""What inputs and outputs seem to be, from the graph alone: types, shapes, names."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from fastgan.errors import ModelFileError
from fastgan.model.guess import beside as signature_beside
from fastgan.model.guess.arithmetic import MOVES, number
from fastgan.model.signature import (
    FLOATS,
    INTEGERS,
    Basis,
    Input,
    Output,
    OutputKind,
    Shape,
    Signature,
)

_IMAGE_CHANNELS = (1, 3, 4)
_LABEL_NAMES = ("y", "label", "labels", "class", "classes", "cls", "onehot", "one_hot")
# Ops whose inputs behind the first are weights.
_WEIGHED = (
    *("BatchNormalization", "Conv", "ConvTranspose", "GroupNormalization"),
    *("InstanceNormalization", "LayerNormalization", "RMSNormalization"),
)
_LONGEST_TAIL = 100  # nodes followed from an input or an output: a bound for hostile graphs


def guess(graph: ir.Graph) -> Signature:
    """The signature that the graph suggests, but for the ranges (`signature_ranges`).

    Raises:
        ModelFileError: an input or output is not a tensor of a known type.
    """
    outputs = tuple(_guess_output(value) for value in graph.outputs)
    values = [value for value in graph.inputs if not value.is_initializer()]
    weights = parameters(graph)
    inputs = tuple(
        _guess_input(value) if value.name not in weights else _tensor(value) for value in values
    )
    return Signature(signature_beside.settle(inputs, values), outputs)


def parameters(graph: ir.Graph) -> set[str]:
    """The inputs that are nothing but weights of convolutions or parameters of norms."""
    return {
        value.name or ""
        for value in graph.inputs
        if value.uses() and all(n.op_type in _WEIGHED and i > 0 for n, i in value.uses())
    }


def _guess_input(value: ir.Value) -> Input:
    guess = _tensor(value)
    name, shape, dtype = guess.name, guess.shape, guess.dtype
    lower, rank = name.lower(), len(shape)

    if dtype in INTEGERS and (rank == 1 or (rank == 2 and shape[1] == 1)):
        return replace(guess, kind="label", classes=_embedded_classes(value))
    if dtype in FLOATS and rank == 2:
        width = shape[1]
        if lower in _LABEL_NAMES and isinstance(width, int) and width > 1:
            return replace(guess, kind="label", classes=width)
        return replace(guess, kind="latent", distribution="normal")
    if rank == 4 and dtype in (*FLOATS, "uint8", "bool"):
        if shape[2:] == (1, 1) and dtype in FLOATS:
            return replace(guess, kind="latent", distribution="normal")
        if "noise" in lower and dtype in FLOATS:
            return replace(guess, kind="noise", distribution="normal")
        if "mask" in lower and shape[1] == 1:
            return replace(guess, kind="mask")
        if shape[1] in _IMAGE_CHANNELS and dtype != "bool":
            return replace(guess, kind="image")
    return guess


def _tensor(value: ir.Value) -> Input:
    name, shape, dtype = _declared(value)
    return Input(name, "tensor", shape, dtype, guessed=True)


def _guess_output(value: ir.Value) -> Output:
    name, shape, dtype = _declared(value)
    # An exporter often leaves the output's shape open, channels and all: then it is an image.
    channels = shape[1] if len(shape) == 4 else None
    image = not shape or (len(shape) == 4 and (channels in _IMAGE_CHANNELS or _open(channels)))
    kind: OutputKind = "image" if image else "tensor"
    return Output(name, kind, shape, dtype, guessed=True, basis=Basis("thin", "nothing tells"))


def _declared(value: ir.Value) -> tuple[str, Shape, str]:
    name = str(value.name)
    if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.UNDEFINED):
        raise ModelFileError(f"{name!r}", f"the type {value.type}", "a tensor of a known type")
    dims = () if value.shape is None else value.shape.dims
    shape = tuple(d if isinstance(d, int) else d.value or "?" for d in dims)
    return name, shape, str(value.dtype.numpy()) if value.dtype is not None else ""


def _open(size: int | str | None) -> bool:
    return not isinstance(size, int)


def _embedded_classes(label: ir.Value) -> int | None:
    """The rows of the table that a label looks up, or the depth of its one-hot, if it does so."""
    frontier = [label]
    for _ in range(_LONGEST_TAIL):
        if not frontier:
            return None
        value = frontier.pop()
        for node, index in value.uses():
            if node.op_type in MOVES and index == 0:
                frontier.extend(node.outputs[:1])
            elif node.op_type == "Gather" and index == 1 and node.inputs[0] is not None:
                table = node.inputs[0]
                if table.is_initializer() and table.shape and isinstance(table.shape[0], int):
                    return table.shape[0]
            elif node.op_type == "OneHot" and index == 0 and len(node.inputs) > 1:
                depth = number(node.inputs[1])
                if depth is not None and depth >= 1:
                    return int(depth)
    return None
