"""ONNX's ways to write a product -> three fused operators with one form each.

- fastgan.Linear(x [N, K], weight [K, M], bias [M]) -> [N, M], or [N, *shape] with `shape` given
- fastgan.Conv(x [N, C, *size], weight [O, C / group, *kernel], bias [O], residual)
- fastgan.ConvTranspose(x [N, C, *size], weight [C, O / group, *kernel], bias [O])

with `strides`, `pads` (begins, then ends), `dilations`, `group` and `output_padding` always
explicit, and the epilogue (`activation`, `parameters`) and `origin` as attributes. Later rules add
to the epilogue.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.model.late import Array, computed
from fastgan.ops.convolution import conv_pads, conv_transpose_geometry
from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule


def _as_matrix(weight: ir.TensorProtocol, rows: int, columns: int) -> ir.TensorProtocol:
    return computed(weight, "matrix", lambda a, _: a.reshape(rows, columns), (), (rows, columns))


def _geometry(node: ir.Node) -> tuple[dict[str, Any], list[int], list[int], list[int], list[int]]:
    """A convolution's attributes, and its input size, kernel, strides and dilations."""
    given = nodes.attributes(node)
    x, weight = node.inputs[0], node.inputs[1]
    assert x is not None
    assert weight is not None
    size, kernel = list(nodes.shape(x)[2:]), list(nodes.shape(weight)[2:])
    strides = list(given.get("strides") or [1] * len(kernel))
    dilations = list(given.get("dilations") or [1] * len(kernel))
    return given, size, kernel, strides, dilations


class _Convolution(Rule):
    """A convolution with a constant weight."""

    operator: str

    def pattern(self, op: Any, x: Any) -> Any:
        return getattr(op, self.operator)(x, _allow_other_inputs=True, _outputs=["out"])

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        if not nodes.is_float(out):
            return "of integers"
        if not all(nodes.is_constant(v) for v in nodes.producer(out).inputs[1:] if v is not None):
            return "the weight or bias depends on data"
        return None


class NormaliseConv(_Convolution):
    """Conv with a constant weight -> fastgan.Conv."""

    operator = "Conv"

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        given, size, kernel, strides, dilations = _geometry(node)
        pads = conv_pads(
            given.get("auto_pad", "NOTSET"), given.get("pads"), size, kernel, strides, dilations
        )
        explicit = nodes.typed(
            strides=strides,
            pads=pads,
            dilations=dilations,
            group=given.get("group", 1),
            origin=nodes.origin(node),
        )
        return op.Conv(*node.inputs, _domain=nodes.DOMAIN, **explicit)


class NormaliseConvTranspose(_Convolution):
    """ConvTranspose with a constant weight -> fastgan.ConvTranspose.

    On a 1x1 input without pads every output pixel is a product of its own: that is a Linear, as
    in the first layer of DCGAN.
    """

    operator = "ConvTranspose"

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        given, size, kernel, strides, dilations = _geometry(node)
        pads, extra = conv_transpose_geometry(
            given.get("auto_pad", "NOTSET"),
            given.get("pads"),
            given.get("output_padding"),
            given.get("output_shape"),
            size,
            kernel,
            strides,
            dilations,
        )
        weight, bias = node.inputs[1], nodes.constant([*node.inputs, None][2])
        assert weight is not None
        assert weight.const_value is not None
        group = given.get("group", 1)
        batch, channels = nodes.shape(x)[:2]
        one_pixel = all(s == 1 for s in size) and not any(pads) and not any(extra)
        if one_pixel and group == 1 and all(d == 1 for d in dilations):
            pixels = int(np.prod(kernel))
            target = op.initializer(ir.tensor([batch, channels]), name=f"{out.name}.row")
            row = op.Reshape(x, target)
            row.shape, row.type = ir.Shape((batch, channels)), x.type
            columns = math.prod(nodes.shape(weight)[1:])
            matrix = _as_matrix(weight.const_value, channels, columns)
            inputs = [row, op.initializer(matrix, name=f"{out.name}.weight")]
            if bias is not None:
                repeated = ir.tensor(np.repeat(bias, pixels))
                inputs.append(op.initializer(repeated, name=f"{out.name}.bias"))
            return op.Linear(
                *inputs,
                _domain=nodes.DOMAIN,
                shape=[nodes.shape(weight)[1], *kernel],
                origin=nodes.origin(node),
            )
        explicit = nodes.typed(
            strides=strides,
            pads=pads,
            dilations=dilations,
            output_padding=extra,
            group=group,
            origin=nodes.origin(node),
        )
        return op.ConvTranspose(*node.inputs, _domain=nodes.DOMAIN, **explicit)


class NormaliseGemm(Rule):
    """Gemm with a constant matrix -> fastgan.Linear, alpha and beta folded."""

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Gemm(x, _allow_other_inputs=True, _outputs=["out"])

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(out)
        if not nodes.is_float(out):
            return "of integers"
        if nodes.attributes(node).get("transA", 0):
            return "the data are transposed"
        if not all(nodes.is_constant(v) for v in node.inputs[1:] if v is not None):
            return "the matrix or the bias depends on data"
        bias = nodes.constant([*node.inputs, None][2])
        if bias is not None and bias.ndim > 1 and bias.shape[0] != 1:
            return "the bias differs from row to row"
        return None

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        given = nodes.attributes(node)
        weight, bias = node.inputs[1], nodes.constant([*node.inputs, None][2])
        assert weight is not None
        assert weight.const_value is not None
        alpha, turned = float(given.get("alpha", 1.0)), bool(given.get("transB", 0))

        def scaled(array: Array, out: Array | None) -> Array:
            matrix = array.T if turned else array
            return matrix if alpha == 1 else matrix * matrix.dtype.type(alpha)

        shape = nodes.shape(weight)[::-1] if turned else nodes.shape(weight)
        matrix = computed(weight.const_value, "Gemm", scaled, (alpha, int(turned)), shape)
        inputs = [x, op.initializer(matrix, name=f"{out.name}.w")]
        if bias is not None:
            times = bias * bias.dtype.type(given.get("beta", 1.0))
            row = np.ascontiguousarray(np.broadcast_to(times.reshape(-1), shape[1]))
            inputs.append(op.initializer(ir.tensor(row), name=f"{out.name}.b"))
        return op.Linear(*inputs, _domain=nodes.DOMAIN, origin=nodes.origin(node))


class NormaliseMatMul(Rule):
    """MatMul of rows with a constant matrix -> fastgan.Linear."""

    def pattern(self, op: Any, x: Any, matrix: Any) -> Any:
        return op.MatMul(x, matrix, _outputs=["out"])

    def refuses(self, x: ir.Value, matrix: ir.Value, out: ir.Value) -> str | None:
        if not nodes.is_float(out):
            return "of integers"
        if not nodes.is_constant(matrix):
            return "the matrix depends on data"
        if len(nodes.shape(x)) != 2 or len(nodes.shape(matrix)) != 2:
            return "not two matrices"
        return None

    def rewrite(self, op: Any, x: ir.Value, matrix: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        return op.Linear(x, matrix, _domain=nodes.DOMAIN, origin=nodes.origin(node))


RULES = tuple(
    rule.rule() for rule in (NormaliseConv, NormaliseConvTranspose, NormaliseGemm, NormaliseMatMul)
)
