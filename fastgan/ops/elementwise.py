"""Elementwise arithmetic, comparison and type conversion, with NumPy broadcasting (opset 7 on)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from fastgan.ops.infer import (
    axis_of,
    broadcast,
    broadcast_boolean,
    broadcast_first,
    like_first,
    mask_like_first,
    meta,
    same,
    select,
)
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
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.BOOL: torch.bool,
}
_ONNX_TYPES = {candidate: onnx for onnx, candidate in _DTYPES.items()}


def torch_dtype(dtype: int) -> torch.dtype:
    """The torch dtype of an ONNX element type.

    Raises:
        KeyError: for the types that torch computes nothing in (strings, 4-bit numbers, ...).
    """
    return _DTYPES[ir.DataType(dtype)]


def onnx_dtype(dtype: torch.dtype) -> ir.DataType:
    """The ONNX element type of a torch dtype."""
    return _ONNX_TYPES[dtype]


def _widened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function on uint16 and uint32 too, by way of int64, which holds them."""

    def run(*tensors: Tensor, **attributes: Any) -> Tensor:
        dtype = tensors[0].dtype
        if dtype not in (torch.uint16, torch.uint32):
            return function(*tensors, **attributes)
        result = function(*(t.long() for t in tensors), **attributes)
        return result if result.dtype is torch.bool else result.to(dtype)

    return run


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """ONNX Div truncates integers towards zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _sign(x: Tensor) -> Tensor:
    """NaN of NaN, of which PyTorch makes 0."""
    return torch.where(x == x, torch.sign(x), x)


def _nearest(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function on a CPU's float32 as the nearest float: PyTorch's is one beside it at times, and
    makes 1 of a cosine that is less, which a Floor behind it shows."""

    def run(x: Tensor) -> Tensor:
        is_single = x.dtype is torch.float32 and x.device.type == "cpu"
        return function(x.double()).float() if is_single else function(x)

    return run


def curves(*rows: tuple[str, int, Callable[[Tensor], Tensor]]) -> None:
    """Register operators that are one function of each element: name, opset and function."""
    for name, since, function in rows:
        register(name, since=since, infer=like_first, elementwise=True, fresh=True)(
            lambda x, f=function: f(x)
        )


curves(
    ("Abs", 1, torch.abs),
    ("Acos", 7, torch.acos),
    ("Acosh", 9, torch.acosh),
    ("Asin", 7, torch.asin),
    ("Asinh", 9, torch.asinh),
    ("Atan", 7, torch.atan),
    ("Atanh", 9, torch.atanh),
    ("BitwiseNot", 18, torch.bitwise_not),
    ("Ceil", 1, torch.ceil),
    ("Cos", 7, _nearest(torch.cos)),
    ("Cosh", 9, torch.cosh),
    ("Erf", 9, torch.erf),
    ("Exp", 1, torch.exp),
    ("Floor", 1, torch.floor),
    ("Log", 1, torch.log),
    ("Neg", 1, torch.neg),
    ("Not", 1, torch.logical_not),
    ("Reciprocal", 1, torch.reciprocal),
    ("Round", 11, torch.round),  # halves to even, as ONNX has it
    ("Sign", 9, _sign),
    ("Sin", 7, _nearest(torch.sin)),
    ("Sinh", 9, torch.sinh),
    ("Sqrt", 1, torch.sqrt),
    ("Tan", 7, torch.tan),
)

for _name, _since, _function2, _infer in (
    ("Add", 7, operator.add, broadcast),
    ("Sub", 7, operator.sub, broadcast),
    ("Mul", 7, operator.mul, broadcast),
    ("Div", 7, _divide, broadcast),
    ("And", 7, torch.logical_and, broadcast_boolean),
    ("Or", 7, torch.logical_or, broadcast_boolean),
    ("Xor", 7, torch.logical_xor, broadcast_boolean),
    ("BitwiseAnd", 18, torch.bitwise_and, broadcast),
    ("BitwiseOr", 18, torch.bitwise_or, broadcast),
    ("BitwiseXor", 18, torch.bitwise_xor, broadcast),
    ("Equal", 7, torch.eq, broadcast_boolean),
    ("Greater", 7, torch.gt, broadcast_boolean),
    ("Less", 7, torch.lt, broadcast_boolean),
    ("GreaterOrEqual", 12, torch.ge, broadcast_boolean),
    ("LessOrEqual", 12, torch.le, broadcast_boolean),
):
    _wide = _widened(_function2)
    register(_name, since=_since, infer=_infer, unsigned=True, elementwise=True, fresh=True)(
        lambda a, b, f=_wide: f(a, b)
    )


def _aligned(
    infer: Callable[..., Tensor], function: Callable[..., Tensor]
) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Both for opsets before 7: b is laid along the axes of a from `axis` on, if `broadcast`."""

    def align(a: Tensor, b: Tensor, axis: int | None) -> Tensor:
        if axis is None or b.dim() == 0:
            return b
        return b.reshape((*b.shape, *[1] * (a.dim() - axis_of(axis, a.dim()) - b.dim())))

    def run(
        a: Tensor,
        b: Tensor,
        *,
        broadcast: int = 0,
        axis: int | None = None,
        consumed_inputs: Sequence[int] = (),
    ) -> Tensor:
        return function(a, align(a, b, axis))

    def shape(a: Tensor, b: Tensor, *, axis: int | None = None, **_: Any) -> Tensor:
        return infer(a, align(a, b, axis))

    return shape, run


for _name, _function2, _rule in (
    ("Add", operator.add, broadcast),
    ("Sub", operator.sub, broadcast),
    ("Mul", operator.mul, broadcast),
    ("Div", _divide, broadcast),
    ("Pow", torch.pow, broadcast_first),
    ("And", torch.logical_and, broadcast_boolean),
    ("Or", torch.logical_or, broadcast_boolean),
    ("Xor", torch.logical_xor, broadcast_boolean),
    ("Equal", torch.eq, broadcast_boolean),
    ("Greater", torch.gt, broadcast_boolean),
    ("Less", torch.lt, broadcast_boolean),
):
    _infer_aligned, _run_aligned = _aligned(_rule, _function2)
    register(_name, since=1, infer=_infer_aligned, elementwise=True, fresh=True)(_run_aligned)

for _name, _function2 in (("Max", torch.maximum), ("Min", torch.minimum), ("Sum", operator.add)):
    _wide = _widened(_function2)
    register(_name, since=1, infer=broadcast, unsigned=True, elementwise=True)(
        lambda *t, f=_wide: reduce(f, t)
    )


@register("Mean", since=1, infer=broadcast, elementwise=True)
def mean(*terms: Tensor) -> Tensor:
    return reduce(operator.add, terms) / len(terms)


@register("Pow", since=7, infer=broadcast_first, elementwise=True)
def power(x: Tensor, exponent: Tensor) -> Tensor:
    """The result has the type of the base."""
    return torch.pow(x, exponent).to(x.dtype)


@register("Mod", since=10, infer=broadcast, unsigned=True, elementwise=True)
def modulo(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """The remainder has the sign of the divisor, or of the dividend with `fmod`."""
    return _widened(torch.fmod if fmod else torch.remainder)(a, b)


@register("BitShift", since=11, infer=broadcast, unsigned=True, elementwise=True)
def bit_shift(a: Tensor, b: Tensor, *, direction: str) -> Tensor:
    return _widened(operator.lshift if direction == "LEFT" else operator.rshift)(a, b)


@register("Where", since=9, infer=select, elementwise=True)
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


@register("IsNaN", since=9, infer=mask_like_first, elementwise=True)
def is_nan(x: Tensor) -> Tensor:
    return torch.isnan(x)


@register("IsInf", since=10, infer=mask_like_first, elementwise=True)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    infinite = torch.isinf(x)
    if not detect_negative:
        infinite = infinite & (x > 0)
    return infinite if detect_positive else infinite & (x < 0)


def _cast_dtype(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    dtype = torch_dtype(to)
    return same(x) if x.dtype is dtype else meta(x.shape, dtype)


@register("Cast", since=6, infer=_cast_dtype, unsigned=True, elementwise=True)
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x.to(torch_dtype(to))


def _cast_like_dtype(x: Tensor, like: Tensor, **attributes: int | str) -> Tensor:
    return same(x) if x.dtype is like.dtype else meta(x.shape, like.dtype)


@register("CastLike", since=15, infer=_cast_like_dtype, unsigned=True)
def cast_like(x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x.to(like.dtype)
