"""Elementwise arithmetic, comparison and type conversion, with NumPy broadcasting (opset 7 on)."""

from __future__ import annotations

import operator

import onnx_ir as ir
import torch
from torch import Tensor

from fastgan.ops.infer import broadcast, broadcast_boolean, like_first, select
from fastgan.ops.registry import register

_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def torch_dtype(dtype: int) -> torch.dtype:
    """The torch dtype of an ONNX element type.

    Raises:
        KeyError: for the types that torch computes nothing in (strings, 4-bit numbers, ...).
    """
    return _DTYPES[ir.DataType(dtype)]


def onnx_dtype(dtype: torch.dtype) -> ir.DataType:
    """The ONNX element type of a torch dtype."""
    return next(onnx for onnx, candidate in _DTYPES.items() if candidate is dtype)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """ONNX Div truncates integers towards zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


for _name, _function in {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sqrt": torch.sqrt,
}.items():
    register(_name, since=1, infer=like_first)(lambda x, f=_function: f(x))

for _name, _since, _function2 in (
    ("Add", 7, operator.add),
    ("Sub", 7, operator.sub),
    ("Mul", 7, operator.mul),
    ("Div", 7, _divide),
    ("And", 7, torch.logical_and),
    ("Or", 7, torch.logical_or),
    ("Xor", 7, torch.logical_xor),
    ("Equal", 7, torch.eq),
    ("Greater", 7, torch.gt),
    ("Less", 7, torch.lt),
    ("GreaterOrEqual", 12, torch.ge),
    ("LessOrEqual", 12, torch.le),
):
    _infer = broadcast if _name in ("Add", "Sub", "Mul", "Div") else broadcast_boolean
    register(_name, since=_since, infer=_infer)(lambda a, b, f=_function2: f(a, b))


@register("Pow", since=7, infer=broadcast)
def power(x: Tensor, exponent: Tensor) -> Tensor:
    """The result has the type of the base."""
    return torch.pow(x, exponent).to(x.dtype)


@register("Where", since=9, infer=select)
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


@register("Max", since=8, infer=broadcast)
def maximum(first: Tensor, *rest: Tensor) -> Tensor:
    for other in rest:
        first = torch.maximum(first, other)
    return first


@register("Min", since=8, infer=broadcast)
def minimum(first: Tensor, *rest: Tensor) -> Tensor:
    for other in rest:
        first = torch.minimum(first, other)
    return first


@register("Sum", since=8, infer=broadcast)
def total(first: Tensor, *rest: Tensor) -> Tensor:
    for other in rest:
        first = first + other
    return first


@register("Mean", since=8, infer=broadcast)
def mean(first: Tensor, *rest: Tensor) -> Tensor:
    return total(first, *rest) / (1 + len(rest))


@register("Cast", since=6)
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x.to(torch_dtype(to))
