"""What inputs and outputs seem to be, from the graph alone: types, shapes, names, activations."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from fastgan.errors import ModelFileError
from fastgan.signature import FLOATS, INTEGERS, Input, Output, OutputKind, Range, Shape, Signature

_IMAGE_CHANNELS = (1, 3, 4)
_LABEL_NAMES = ("y", "label", "labels", "class", "classes", "cls", "onehot", "one_hot")
# Ops that move values about without changing them.
_MOVES = (
    *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Slice"),
    *("DepthToSpace", "SpaceToDepth", "Dropout", "Expand", "Tile", "Split"),
)
_BOUNDS = {
    **dict.fromkeys(("Tanh", "Softsign", "Sin", "Cos"), (-1.0, 1.0)),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax"), (0.0, 1.0)),
}
_LONGEST_TAIL = 100  # nodes followed from an input or an output: a bound for hostile graphs


def guess(graph: ir.Graph) -> Signature:
    """The signature that the graph suggests.

    Raises:
        ModelFileError: an input or output is not a tensor of a known type.
    """
    outputs = tuple(_guess_output(value) for value in graph.outputs)
    # Networks from image to image nearly always use one range for both.
    image_range = next((o.range for o in outputs if o.kind == "image"), (-1.0, 1.0))
    values = [value for value in graph.inputs if not value.is_initializer()]
    return Signature(tuple(_guess_input(value, image_range) for value in values), outputs)


def _guess_input(value: ir.Value, image_range: Range) -> Input:
    name, shape, dtype = _declared(value)
    guess = Input(name, "tensor", shape, dtype, guessed=True)
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
            return replace(guess, kind="mask", range=(0.0, 1.0))
        if shape[1] in _IMAGE_CHANNELS and dtype != "bool":
            byte = dtype == "uint8"
            return replace(guess, kind="image", range=(0.0, 255.0) if byte else image_range)
    return guess


def _guess_output(value: ir.Value) -> Output:
    name, shape, dtype = _declared(value)
    # An exporter often leaves the output's shape open, channels and all: then it is an image.
    channels = shape[1] if len(shape) == 4 else None
    image = not shape or (len(shape) == 4 and (channels in _IMAGE_CHANNELS or _open(channels)))
    bounds = (0.0, 255.0) if dtype == "uint8" else _final_range(value)
    kind: OutputKind = "image" if image else "tensor"
    return Output(name, kind, shape, dtype, bounds or (-1.0, 1.0), guessed=bounds is None)


def _declared(value: ir.Value) -> tuple[str, Shape, str]:
    name = str(value.name)
    if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.UNDEFINED):
        raise ModelFileError(f"{name!r}", f"the type {value.type}", "a tensor of a known type")
    dims = () if value.shape is None else value.shape.dims
    shape = tuple(d if isinstance(d, int) else d.value or "?" for d in dims)
    return name, shape, str(value.dtype.numpy()) if value.dtype is not None else ""


def _open(size: int | str | None) -> bool:
    return not isinstance(size, int)


def _final_range(value: ir.Value) -> Range | None:
    """The bounds of the last activation, through moves and through arithmetic with one number."""
    scale, shift = 1.0, 0.0  # the output is scale * value + shift
    for _ in range(_LONGEST_TAIL):
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or not node.inputs:
            return None
        first = node.inputs[0]
        if node.op_type in ("Add", "Sub", "Mul", "Div"):
            second = node.inputs[1] if len(node.inputs) == 2 else None
            left, right = _number(first), _number(second)
            constant = left if right is None else right
            if constant is None or (left is not None and node.op_type in ("Sub", "Div")):
                return None
            if node.op_type in ("Mul", "Div"):
                if not constant:
                    return None
                scale *= constant if node.op_type == "Mul" else 1 / constant
            else:
                shift += scale * constant * (1 if node.op_type == "Add" else -1)
            first = second if right is None else first
        elif node.op_type not in _MOVES:
            bounds = _activation_bounds(node)
            if bounds is None:
                return None
            low, high = sorted(scale * bound + shift for bound in bounds)
            return (low, high) if math.isfinite(low + high) and low < high else None
        if first is None:
            return None
        value = first
    return None


def _activation_bounds(node: ir.Node) -> Range | None:
    if node.op_type == "Clip":  # bounds were attributes up to opset 10, inputs since
        inputs = [*node.inputs, None, None]
        low = _number(inputs[1]) if inputs[1] else node.attributes.get_float("min", None)
        high = _number(inputs[2]) if inputs[2] else node.attributes.get_float("max", None)
        return (low, high) if low is not None and high is not None and low < high else None
    return _BOUNDS.get(node.op_type)


def _number(value: ir.Value | None) -> float | None:
    """The value of a constant of one element, else None."""
    try:
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.size != 1:
            return None
        return float(tensor.numpy().reshape(()))
    except (TypeError, ValueError, OverflowError):  # a damaged constant, or one of strings
        return None


def _embedded_classes(label: ir.Value) -> int | None:
    """The rows of the table that a label looks up, or the depth of its one-hot, if it does so."""
    frontier = [label]
    for _ in range(_LONGEST_TAIL):
        if not frontier:
            return None
        value = frontier.pop()
        for node, index in value.uses():
            if node.op_type in _MOVES and index == 0:
                frontier.extend(node.outputs[:1])
            elif node.op_type == "Gather" and index == 1 and node.inputs[0] is not None:
                table = node.inputs[0]
                if table.is_initializer() and table.shape and isinstance(table.shape[0], int):
                    return table.shape[0]
            elif node.op_type == "OneHot" and index == 0 and len(node.inputs) > 1:
                depth = _number(node.inputs[1])
                if depth is not None and depth >= 1:
                    return int(depth)
    return None
