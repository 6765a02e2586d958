"""Matrix products: ONNX Gemm, MatMul, Einsum and Det."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.infer import broadcast_shapes, meta
from fastgan.ops.registry import register


def _gemm_shape(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, transA: int = 0, transB: int = 0, **_: Any
) -> Tensor:
    (rows, inner), (other, columns) = a.shape, b.shape
    if transA:
        rows, inner = inner, rows
    if transB:
        other, columns = columns, other
    if inner != other:
        raise ValueError(f"{inner} columns of A meet {other} rows of B")
    if c is not None and broadcast_shapes(c.shape, (rows, columns)) != (rows, columns):
        raise ValueError(f"C {tuple(c.shape)} does not broadcast to {(rows, columns)}")
    return meta((rows, columns), a.dtype)


@register("Gemm", since=1, infer=_gemm_shape, fresh=True)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 1,
) -> Tensor:
    """alpha * a' @ b' + beta * c, where ' transposes if asked; c broadcasts to the product."""
    product = matmul(a.t() if transA else a, b.t() if transB else b)
    if alpha != 1.0:
        product = product * alpha
    if c is not None:
        product = product + (c if beta == 1.0 else c * beta)
    return product.to(a.dtype)  # integers times alpha


def matmul_shape(a: Tensor, b: Tensor) -> Tensor:
    left, right = list(a.shape), list(b.shape)
    row, column = len(left) == 1, len(right) == 1
    left, right = ([1, *left] if row else left), ([*right, 1] if column else right)
    if left[-1] != right[-2]:
        raise ValueError(f"{left[-1]} columns meet {right[-2]} rows")
    shape = list(broadcast_shapes(left[:-2], right[:-2]) if len(left) + len(right) > 4 else [])
    return meta([*shape, *left[-2:-1][row:], *right[-1:][column:]], a.dtype)


@register("MatMul", since=1, infer=matmul_shape, fresh=True)
def matmul(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or a.device.type != "cuda":
        return torch.matmul(a, b)
    # Integers, which CUDA's libraries do not multiply: exactly, one column with one row at a time.
    left = a.unsqueeze(0) if a.dim() == 1 else a
    right = b.unsqueeze(1) if b.dim() == 1 else b
    y = left.new_zeros(matmul_shape(left, right).shape)
    for k in range(left.shape[-1]):
        y += left[..., k : k + 1] * right[..., k : k + 1, :]
    return y.reshape(matmul_shape(a, b).shape)


@register("Einsum", since=12)
def einsum(*operands: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation.replace(" ", ""), *operands)


@register("Det", since=11)
def determinant(x: Tensor) -> Tensor:
    return torch.linalg.det(x)
