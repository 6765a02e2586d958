"""Attention as one operator, ONNX Attention: what PyTorch's newer exporter writes from opset 23 on.

https://onnx.ai/onnx/operators/onnx__Attention.html
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.elementwise import torch_dtype
from fastgan.ops.infer import meta
from fastgan.ops.registry import register


def _heads(x: Tensor, count: int) -> Tensor:
    """[batch, length, heads * size] as [batch, heads, length, size]; with heads already, as is."""
    if x.dim() == 4:
        return x
    batch, length, width = x.shape
    return x.reshape(batch, length, count, width // count).transpose(1, 2)


def _shapes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *others: Tensor | None,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    num_outputs: int = 1,
    **_: Any,
) -> Tensor | tuple[Tensor, ...]:
    past_key = dict(enumerate(others)).get(1)  # behind the mask
    q, k = _sizes(query, q_num_heads), _sizes(key, kv_num_heads)
    v = _sizes(value, kv_num_heads)
    if q[3] != k[3] or k[2] != v[2] or q[1] % k[1] or k[1] != v[1]:
        raise ValueError(f"queries {q}, keys {k} and values {v} do not fit together")
    length = k[2] + (past_key.shape[2] if past_key is not None else 0)
    y = (*q[:3], v[3]) if query.dim() == 4 else (q[0], q[2], q[1] * v[3])
    outputs = (y, (*k[:2], length, k[3]), (*v[:2], length, v[3]), (*q[:3], length))
    results = tuple(meta(shape, query.dtype) for shape in outputs[:num_outputs])
    return results if num_outputs > 1 else results[0]


def _sizes(x: Tensor, heads: int) -> tuple[int, ...]:
    if x.dim() == 4:
        return tuple(x.shape)
    if x.dim() != 3 or heads < 1 or x.shape[2] % heads:
        raise ValueError(f"{tuple(x.shape)} does not hold {heads} heads")
    return x.shape[0], heads, x.shape[1], x.shape[2] // heads


@register("Attention", since=23, infer=_shapes)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    filled: Tensor | None = None,
    *,
    is_causal: int = 0,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
    qk_matmul_output_mode: int = 0,
    left_window_size: int = -1,
    right_window_size: int = -1,
    num_outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """softmax(scale * q @ k' + bias) @ v, head by head; fewer key heads serve several query heads.

    Args:
        query, key, value: [batch, heads, length, size], or [batch, length, heads * size].
        mask: added to the scores; a boolean one keeps where it is true.
        past_key, past_value: what comes before key and value.
        filled: int64 [batch], how many keys of each sample count.
    """
    q = _heads(query, q_num_heads)
    k, v = _heads(key, kv_num_heads), _heads(value, kv_num_heads)
    before: Tensor | int = 0
    if past_key is not None and past_value is not None:
        before = past_key.shape[2]
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    elif filled is not None:
        before = (filled - q.shape[2]).reshape(-1, 1, 1, 1)
    windowed = is_causal or left_window_size >= 0 or right_window_size >= 0
    bias: Tensor | None = None
    if mask is not None or filled is not None or windowed:
        window = (left_window_size, 0 if is_causal else right_window_size)
        bias = _bias(q, k, mask, filled, before, window)
    dtype = query.dtype
    half = dtype == torch.float16
    if num_outputs == 1 and bias is None and not softcap and not (half and not q.is_cuda):
        y = F.scaled_dot_product_attention(
            q, k, v, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return _joined(y, query)
    times = q.shape[1] // k.shape[1]
    keys, values = (t.repeat_interleave(times, 1) if times > 1 else t for t in (k, v))
    if half:  # wider inside, and rounded once
        q, keys, values = q.float(), keys.float(), values.float()
    root = math.sqrt(1 / math.sqrt(q.shape[3]) if scale is None else scale)
    scores = (q * root) @ (keys * root).transpose(2, 3)
    capped = softcap * torch.tanh(scores / softcap) if softcap else scores
    biased = capped if bias is None else capped + bias
    wide = biased.to(torch_dtype(softmax_precision)) if softmax_precision else biased
    # A row with no key at all gives zeros, not NaN.
    weights = torch.softmax(wide, -1).masked_fill(wide.amax(-1, True) == -math.inf, 0.0).to(q.dtype)
    y = _joined((weights @ values).to(dtype), query)
    kept = (scores, capped, biased, weights)[qk_matmul_output_mode].to(dtype)
    return (y, k, v, kept)[:num_outputs] if num_outputs > 1 else y


def _joined(y: Tensor, query: Tensor) -> Tensor:
    """The heads as the query has them."""
    return y if query.dim() == 4 else y.transpose(1, 2).flatten(2)


def _bias(
    q: Tensor,
    k: Tensor,
    mask: Tensor | None,
    filled: Tensor | None,
    before: Tensor | int,
    window: tuple[int, int],
) -> Tensor:
    """What is added to the scores: the mask, and -inf for keys out of a query's reach.

    Args:
        before: how many keys come before the first query.
        window: how many keys before and after its own a query sees; -1 for all.
    """
    keys = torch.arange(k.shape[2], device=q.device)
    away = keys - (torch.arange(q.shape[2], device=q.device)[:, None] + before)
    left, right = window
    allowed = torch.ones_like(away, dtype=torch.bool)
    if left >= 0:
        allowed = allowed & (away >= -left)
    if right >= 0:
        allowed = allowed & (away <= right)
    if filled is not None:
        allowed = allowed & (keys < filled.reshape(-1, 1, 1, 1))
    bias = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device)
    bias = bias.masked_fill(~allowed, -math.inf)
    if mask is None:
        return bias
    missing = k.shape[2] - mask.shape[-1]
    if mask.dtype == torch.bool:
        zero = torch.zeros(mask.shape, dtype=q.dtype, device=q.device)
        mask = zero.masked_fill(~mask, -math.inf)
    return bias + F.pad(mask.to(q.dtype), (0, missing), value=-math.inf)
