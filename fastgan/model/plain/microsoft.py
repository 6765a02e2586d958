"""`com.microsoft`: what ONNX Runtime's optimiser fuses, taken apart again.

Each is defined in ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from fastgan.model.plain.build import (
    Builder,
    CannotError,
    Converter,
    rank,
)

DOMAIN = "com.microsoft"
#: Of a convolution's attributes, those of the plain one.
GEOMETRY = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides", "storage_order")
FUSED = ("activation", "activation_params")
NAMED = ("activation", "activation_alpha", "activation_beta", "activation_gamma")

_WITHOUT_PARAMETERS = ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign", "HardSwish")
#: Activations with parameters: what the attributes of the plain one are called.
_PARAMETERS = {
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
}


def activated(make: Builder, x: ir.Value, name: str, parameters: Sequence[float]) -> ir.Value:
    """x behind the activation that a fused operator names; "" is none."""
    if not name:
        return x
    if name == "Clip":
        low, high = parameters
        return make.clip(x, low, high)
    if name == "Gelu":
        return _gelu_of(make, x)
    if name in _WITHOUT_PARAMETERS:
        return make(name, x)
    if name not in _PARAMETERS:
        raise CannotError(f"activation {name!r}")
    given: dict[str, Any] = dict(zip(_PARAMETERS[name], map(float, parameters), strict=False))
    return make(name, x, **given)


def convolved(
    make: Builder, x: ir.Value, weight: ir.Value, bias: ir.Value | None, residual: ir.Value | None
) -> ir.Value:
    """activation(Conv(x, weight, bias) + residual), as the node's attributes have it."""
    make.only(*GEOMETRY, *FUSED)
    y = make("Conv", x, weight, bias, **make.attributes(GEOMETRY))
    if residual is not None:
        y = make("Add", y, residual)
    return activated(make, y, make.given("activation", ""), make.given("activation_params", ()))


def _fused_conv(make: Builder) -> ir.Value:
    """activation(Conv(X, W, B) + Z)."""
    return convolved(make, make.input(0), make.input(1), make.optional(2), make.optional(3))


def _nhwc_conv(make: Builder) -> ir.Value:
    """Images channels last; a weight of NhwcConv is [O, *kernel, I], one of NhwcFusedConv ONNX's.

    What `kernel_shape` says of the weight goes before that.
    """
    weight = make.input(1)
    axes = rank(weight)
    last = make.node.op_type == "NhwcConv"
    kernel = tuple(make.given("kernel_shape", ()))
    if kernel and weight.shape is not None:
        sizes = tuple(weight.shape.dims)
        fits = {True: sizes[1:-1] == kernel, False: sizes[2:] == kernel}
        last = last if fits[last] else fits[True]
    weight = make.channels_first(weight, axes) if last else weight
    residual = make.optional(3)
    y = convolved(
        make,
        make.channels_first(make.input(0), axes),
        weight,
        make.optional(2),
        None if residual is None else make.channels_first(residual, axes),
    )
    return make.channels_last(y, axes)


def _nhwc_max_pool(make: Builder) -> ir.Value:
    make.only(*POOL)
    axes = len(make.given("kernel_shape", (0, 0))) + 2
    x = make.channels_first(make.input(0), axes)
    return make.channels_last(make("MaxPool", x, **make.attributes(POOL)), axes)


# Curves -------------------------------------------------------------------------------------------


def _gelu_of(make: Builder, x: ir.Value) -> ir.Value:
    """x * (1 + erf(x / sqrt(2))) / 2."""
    if make.opset >= 20:
        return make("Gelu", x)
    curve = make("Erf", make("Div", x, make.number(math.sqrt(2), x, "root")))
    whole = make("Mul", x, make("Add", curve, make.number(1, x, "one")))
    return make("Mul", whole, make.number(0.5, x, "half"))


def _fast_gelu_of(make: Builder, x: ir.Value) -> ir.Value:
    """x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2."""
    if make.opset >= 20:
        return make("Gelu", x, approximate="tanh")
    cube = make("Mul", make("Mul", x, x), x)
    inner = make("Add", x, make("Mul", cube, make.number(0.044715, x, "cubic")))
    scaled = make("Mul", inner, make.number(math.sqrt(2 / math.pi), x, "root"))
    whole = make("Mul", x, make("Add", make("Tanh", scaled), make.number(1, x, "one")))
    return make("Mul", whole, make.number(0.5, x, "half"))


def _gelu(make: Builder) -> ir.Value:
    make.only()
    return _gelu_of(make, make.input(0))


def _bias_gelu(make: Builder) -> ir.Value:
    make.only()
    return _gelu_of(make, _sum(make, make.input(0), make.input(1)))


def _fast_gelu(make: Builder) -> ir.Value:
    make.only()
    bias = make.optional(1)
    return _fast_gelu_of(make, make.input(0) if bias is None else _sum(make, make.input(0), bias))


def _quick_gelu(make: Builder) -> ir.Value:
    """x * sigmoid(alpha * x)."""
    make.only("alpha")
    x, alpha = make.input(0), make.given("alpha", 1.702)
    scaled = x if alpha == 1 else make("Mul", x, make.number(alpha, x, "alpha"))
    return make("Mul", x, make("Sigmoid", scaled))


def _sum(make: Builder, *terms: ir.Value) -> ir.Value:
    """Their sum, of the type of the first whose type is told."""
    total = terms[0]
    for term in terms[1:]:
        dtype = total.dtype or term.dtype
        total = make("Add", total, term)
        total.type = None if dtype is None else ir.TensorType(dtype)
    return total


# Products -----------------------------------------------------------------------------------------


def _fused_matmul(make: Builder) -> ir.Value:
    """alpha * A' B', where ' swaps the last two axes, and what the batch axes are, if asked."""
    flags = ("transA", "transB", "transBatchA", "transBatchB")
    make.only("alpha", *flags, *NAMED)
    a, b = (
        _turned(make, make.input(i), make.given(f"trans{s}", 0), make.given(f"transBatch{s}", 0))
        for i, s in enumerate("AB")
    )
    y = make("MatMul", a, b)
    if (alpha := make.given("alpha", 1.0)) != 1:
        y.type = make.node.outputs[0].type or make.input(0).type
        y = make("Mul", y, make.number(alpha, y, "alpha"))
    return _named(make, y)


def _turned(make: Builder, x: ir.Value, swapped: int, first: int) -> ir.Value:
    """x [.., i, j] with i and j swapped, or x [i, .., j] with i moved behind the batch axes."""
    if not swapped and not first:
        return x
    if first:
        order = list(range(rank(x)))
        order = [*order[1:-1], order[0], order[-1]]
        order[-2:] = order[:-3:-1] if swapped else order[-2:]
        return make("Transpose", x, perm=order)
    # ONNX Runtime writes no shapes into its files, so that how many axes there are is not known.
    if x.shape is not None:
        axes = len(x.shape)
        return make("Transpose", x, perm=[*range(axes - 2), axes - 1, axes - 2])
    sizes = make("Shape", x)
    batch, matrix = make.slice(sizes, 0, -2, 0), make.slice(sizes, -2, 1 << 30, 0)
    rows = make("Reshape", x, make("Concat", make.integers(-1), matrix, axis=0))
    columns = make("Transpose", rows, perm=[0, 2, 1])
    last, before = make.slice(sizes, -1, 1 << 30, 0), make.slice(sizes, -2, -1, 0)
    return make("Reshape", columns, make("Concat", batch, last, before, axis=0))


def _fused_gemm(make: Builder) -> ir.Value:
    plain = ("alpha", "beta", "transA", "transB")
    make.only(*plain, *NAMED)
    y = make("Gemm", make.input(0), make.input(1), make.optional(2), **make.attributes(plain))
    return _named(make, y)


def _named(make: Builder, y: ir.Value) -> ir.Value:
    """y behind an activation whose parameters are attributes of their own."""
    name: str = make.given("activation", "")
    if not name or name in _WITHOUT_PARAMETERS:
        return activated(make, y, name, ())
    if name not in _PARAMETERS:
        raise CannotError(f"activation {name!r}")
    given = make.attributes([f"activation_{parameter}" for parameter in _PARAMETERS[name]])
    return make(name, y, **{key.removeprefix("activation_"): v for key, v in given.items()})


# Norms --------------------------------------------------------------------------------------------


def _skip_norm(make: Builder) -> Sequence[ir.Value]:
    """The norm of input + skip (+ bias) over the last axis; and, as the fourth output, that sum."""
    make.only("epsilon")
    simplified = make.node.op_type == "SkipSimplifiedLayerNormalization"
    gamma, beta = make.input(2), None if simplified else make.optional(3)
    bias = make.optional(3 if simplified else 4)
    if any(value.uses() or value.is_graph_output() for value in make.node.outputs[1:3]):
        raise CannotError("statistics of a norm")
    terms = [make.input(0), make.input(1), *([] if bias is None else [bias])]
    total = _sum(make, *terms)
    op = "RMSNormalization" if simplified else "LayerNormalization"
    y = make(op, total, gamma, beta, axis=-1, epsilon=float(make.given("epsilon", 1e-12)))
    return [y, *list(make.node.outputs[1:3]), total][: len(make.node.outputs)]


def _simplified_norm(make: Builder) -> ir.Value:
    """x by the root of its mean square, which ONNX came to call RMSNormalization."""
    make.only("axis", "epsilon", "stash_type")
    given = make.attributes(("axis", "epsilon", "stash_type"))
    return make("RMSNormalization", make.input(0), make.input(1), **given)


def _bias_softmax(make: Builder) -> ir.Value:
    """Softmax(data + bias) along the last axis, where bias broadcasts as NumPy's does."""
    make.only("axis", "is_inner_broadcast")
    data, bias = make.input(0), make.input(1)
    axes = rank(data)
    if make.given("axis", 1) % axes != axes - 1 or not make.given("is_inner_broadcast", 1):
        raise CannotError("another axis, or a bias that repeats its rows")
    return make("Softmax", make("Add", data, bias), axis=axes - 1)


def _bias_add(make: Builder) -> ir.Value:
    make.only()
    return _sum(make, make.input(0), make.input(1), make.input(2))


def _grid_sample(make: Builder) -> ir.Value:
    make.only("align_corners", "mode", "padding_mode")
    given = {"mode": make.given("mode", "bilinear"), **make.attributes(("padding_mode",))}
    corners = make.given("align_corners", 0)
    return make("GridSample", make.input(0), make.input(1), align_corners=corners, **given)


#: Operators whose first input and output are channels last in this domain, and nothing else.
LAST_DOMAIN = "com.ms.internal.nhwc"
_LAST = (
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    *("BatchNormalization", "InstanceNormalization", "LRN", "DepthToSpace", "SpaceToDepth"),
)


def _channels_last(make: Builder) -> ir.Value:
    given, weighted = make.attributes(list(make.node.attributes)), ("Conv", "ConvTranspose")
    if make.node.op_type in weighted:
        axes = rank(make.input(1))
    else:
        axes = len(given["kernel_shape"]) + 2 if "kernel_shape" in given else 4
    x = make.channels_first(make.input(0), axes)
    y = make(make.node.op_type, x, *make.node.inputs[1:], **given)
    return make.channels_last(y, axes)


_CONVERTERS: tuple[tuple[str, Converter], ...] = (
    ("FusedConv", _fused_conv),
    ("NhwcConv", _nhwc_conv),
    ("NhwcFusedConv", _nhwc_conv),
    ("NhwcMaxPool", _nhwc_max_pool),
    ("Gelu", _gelu),
    ("BiasGelu", _bias_gelu),
    ("FastGelu", _fast_gelu),
    ("QuickGelu", _quick_gelu),
    ("FusedMatMul", _fused_matmul),
    ("FusedMatMulActivation", _fused_matmul),
    ("TransposeMatMul", _fused_matmul),
    ("FusedGemm", _fused_gemm),
    ("SkipLayerNormalization", _skip_norm),
    ("SkipSimplifiedLayerNormalization", _skip_norm),
    ("BiasSoftmax", _bias_softmax),
    ("BiasAdd", _bias_add),
    ("GridSample", _grid_sample),
)
CONVERTERS: dict[tuple[str, str], Converter] = {
    **{(DOMAIN, name): convert for name, convert in _CONVERTERS},
    ("", "SimplifiedLayerNormalization"): _simplified_norm,
    **{(LAST_DOMAIN, name): _channels_last for name in _LAST},
}
