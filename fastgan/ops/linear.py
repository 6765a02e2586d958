"""Matrix products: ONNX Gemm and MatMul."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.ops.registry import register


@register("Gemm", since=1)
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
    product = (a.t() if transA else a) @ (b.t() if transB else b)
    if alpha != 1.0:
        product = product * alpha
    if c is None:
        return product
    return product + (c if beta == 1.0 else c * beta)


@register("MatMul", since=1)
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)
