"""What quantisers write: weights of integers folded, operators on integers as ones on floats.

`QLinearConv` and its kin round their result to integers by a scale and a zero: they are
DequantizeLinear, the plain operator and QuantizeLinear, which round at the same places. Their sums
are of floats here, so that a result may come to the next integer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
from torch import Tensor

from fastgan.model.plain.build import (
    Builder,
    CannotError,
    Converter,
    Given,
    array,
    rank,
)
from fastgan.model.plain.microsoft import DOMAIN, GEOMETRY, POOL
from fastgan.ops import quantisation
from fastgan.ops.nodes import to_onnx, to_torch

_BOTH = ("", DOMAIN)
_LINEAR = ("axis", "block_size", "output_dtype", "precision", "saturate")
#: Integers of less than a byte, by those that hold them.
_HELD = {
    **dict.fromkeys((ir.DataType.INT4, ir.DataType.INT2), np.int8),
    **dict.fromkeys((ir.DataType.UINT4, ir.DataType.UINT2), np.uint8),
}
_FLOATS8 = frozenset(
    (
        *(ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E4M3FNUZ),
        *(ir.DataType.FLOAT8E5M2, ir.DataType.FLOAT8E5M2FNUZ),
    )
)


def _dequantize(make: Builder) -> ir.Value:
    """What constants stand for; of other inputs, ONNX's own operator."""
    return _linear(make, quantisation.dequantized, quantisation.dequantize)


def _quantize(make: Builder) -> ir.Value:
    """Of constants the integers, which DequantizeLinear then folds."""
    return _linear(make, quantisation.quantized, quantisation.quantize)


def _linear(
    make: Builder, infer: Callable[..., Tensor], function: Callable[..., Tensor]
) -> ir.Value:
    make.only(*_LINEAR)
    inputs = [make.input(0), make.input(1), make.optional(2)]
    if all(value is None or _is_constant(value) for value in inputs):
        names = ("axis", "block_size", "output_dtype")
        return _folded(make, infer, function, inputs, make.attributes(names))
    if make.node.domain == DOMAIN:
        return make(make.node.op_type, *inputs, **make.attributes(_LINEAR))
    raise CannotError("what is no constant")


def _folded(
    make: Builder,
    infer: Callable[..., Tensor],
    function: Callable[..., Tensor],
    inputs: Sequence[Given],
    attributes: dict[str, int],
) -> ir.Value:
    narrow = function is quantisation.quantize
    tensors = [None if v is None else to_torch(_held(v, narrow)) for v in inputs]
    infer(*tensors, **attributes)  # raises where they do not fit
    return make.weight(to_onnx(function(*tensors, **attributes), None), "folded")


def _is_constant(value: ir.Value) -> bool:
    """Whether a value is known, and no input that a caller may set."""
    return not value.is_graph_input() and ir.convenience.get_const_tensor(value) is not None


def _held(value: ir.Value, narrow: bool) -> ir.TensorProtocol:
    """A constant in a type that torch has; where it is `narrow`, only what keeps its range."""
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None
    if narrow:
        return tensor
    if tensor.dtype in _HELD:
        return ir.Tensor(tensor.numpy().astype(_HELD[tensor.dtype]))
    if tensor.dtype in _FLOATS8:
        return ir.Tensor(tensor.numpy().astype(np.float32))
    return tensor


# Operators on integers ----------------------------------------------------------------------------

#: An integer tensor, its scale and its zero.
_Triple = tuple[ir.Value, ir.Value, Given]


def _triple(make: Builder, first: int) -> _Triple:
    return make.input(first), make.input(first + 1), make.optional(first + 2)


def _real(make: Builder, triple: _Triple, axis: int = 1) -> ir.Value:
    """What integers stand for."""
    if all(value is None or _is_constant(value) for value in triple):
        infer, function = quantisation.dequantized, quantisation.dequantize
        return _folded(make, infer, function, triple, {"axis": axis})
    return make("DequantizeLinear", *triple, axis=axis)


def _integers(make: Builder, y: ir.Value, scale: ir.Value, zero: Given) -> ir.Value:
    return make("QuantizeLinear", y, scale, zero)


def _bias(make: Builder, bias: Given, scales: Sequence[ir.Value], gain: float = 1) -> Given:
    """A bias of sums, in int32, by the product of the scales."""
    if bias is None:
        return None
    product = np.float32(gain) * np.prod(
        np.broadcast_arrays(*(array(s).astype(np.float32).reshape(-1) for s in scales)), axis=0
    )
    whole = array(bias).astype(np.float32) * product.astype(np.float32)
    return make.constant(whole.astype(np.float32), "bias")


def _conv(make: Builder) -> ir.Value:
    make.only(*GEOMETRY, "channels_last")
    weight = make.input(3)
    axes, last = rank(weight), make.given("channels_last", 0)
    x = _real(make, _triple(make, 0))
    bias = _bias(make, make.optional(8), (make.input(1), make.input(4)))
    x = make.channels_first(x, axes) if last else x
    y = make("Conv", x, _real(make, _triple(make, 3), 0), bias, **make.attributes(GEOMETRY))
    y = make.channels_last(y, axes) if last else y
    return _integers(make, y, make.input(6), make.optional(7))


def _matmul(make: Builder) -> ir.Value:
    """A scale of A is of its rows, one of B of its columns."""
    make.only()
    a, b = _real(make, _triple(make, 0), -2), _real(make, _triple(make, 3), -1)
    return _integers(make, make("MatMul", a, b), make.input(6), make.optional(7))


def _gemm(make: Builder) -> ir.Value:
    make.only("alpha", "transA", "transB")
    given = make.attributes(("alpha", "transA", "transB"))
    a = _real(make, _triple(make, 0))
    b = _real(make, _triple(make, 3), 0 if make.given("transB", 0) else 1)
    gain = float(make.given("alpha", 1.0))
    c = _bias(make, make.optional(6), (make.input(1), make.input(4)), gain)
    y = make("Gemm", a, b, c, **given)
    scale = make.optional(7)
    return y if scale is None else _integers(make, y, scale, make.optional(8))


def _matmul_to_float(make: Builder) -> ir.Value:
    make.only()
    a = _real(make, (make.input(0), make.input(2), make.optional(4)), -2)
    b = _real(make, (make.input(1), make.input(3), make.optional(5)), -1)
    y, bias = make("MatMul", a, b), make.optional(6)
    return y if bias is None else make("Add", y, bias)


def _dynamic_matmul(make: Builder) -> ir.Value:
    make.only()
    x, scale, zero = make.several("DynamicQuantizeLinear", make.input(0), outputs=3)
    a = _real(make, (x, scale, zero))
    b = _real(make, (make.input(1), make.input(2), make.optional(3)), -1)
    y, bias = make("MatMul", a, b), make.optional(4)
    return y if bias is None else make("Add", y, bias)


def _of_one(make: Builder, op: str, *attributes: str) -> ir.Value:
    """An operator of X, X_scale, X_zero, Y_scale, Y_zero."""
    make.only(*attributes, "channels_last")
    x, last = _real(make, _triple(make, 0)), make.given("channels_last", 0)
    x = make.channels_first(x, 4) if last else x
    given = {k: v for k, v in make.attributes(attributes).items() if k != "opset"}
    y = make(op, x, **given)
    y = make.channels_last(y, 4) if last else y
    return _integers(make, y, make.input(3), make.optional(4))


def _of_two(make: Builder, op: str) -> ir.Value:
    make.only()
    a, b = _real(make, _triple(make, 0)), _real(make, _triple(make, 3))
    return _integers(make, make(op, a, b), make.input(6), make.optional(7))


def _concat(make: Builder) -> ir.Value:
    make.only("axis")
    places = range(2, len(make.node.inputs), 3)
    parts = [_real(make, _triple(make, place)) for place in places]
    y = make("Concat", *parts, axis=make.given("axis", 1))
    return _integers(make, y, make.input(0), make.optional(1))


CONVERTERS: dict[tuple[str, str], Converter] = {
    **{(domain, "DequantizeLinear"): _dequantize for domain in _BOTH},
    **{(domain, "QuantizeLinear"): _quantize for domain in _BOTH},
    **{(domain, "QLinearConv"): _conv for domain in _BOTH},
    ("", "QLinearMatMul"): _matmul,
    **{
        (DOMAIN, name): convert
        for name, convert in (
            ("QGemm", _gemm),
            ("MatMulIntegerToFloat", _matmul_to_float),
            ("DynamicQuantizeMatMul", _dynamic_matmul),
            ("QLinearAdd", partial(_of_two, op="Add")),
            ("QLinearMul", partial(_of_two, op="Mul")),
            ("QLinearConcat", _concat),
            ("QLinearSigmoid", partial(_of_one, op="Sigmoid")),
        )
    },
    (DOMAIN, "QLinearLeakyRelu"): lambda make: _of_one(make, "LeakyRelu", "alpha"),
    (DOMAIN, "QLinearSoftmax"): lambda make: _of_one(make, "Softmax", "axis", "opset"),
    (DOMAIN, "QLinearGlobalAveragePool"): lambda make: _of_one(make, "GlobalAveragePool"),
    (DOMAIN, "QLinearAveragePool"): lambda make: _of_one(
        make, "AveragePool", *POOL, "count_include_pad"
    ),
}
