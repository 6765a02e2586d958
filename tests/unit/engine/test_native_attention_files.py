"""Attention as files have it, run natively: ONNX's operator, and what PyTorch's exporters write."""

from __future__ import annotations

import math
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor, nn

import fastgan
from fastgan.engine.native import attention
from tests.unit.engine.native_networks import threads

__all__ = ["threads"]

pytestmark = pytest.mark.cpu


def onnx_attention(inputs: dict[str, Tensor], out: tuple[int, ...], **attributes: Any) -> Tensor:
    """ONNX's Attention of tensors, by a file; all native."""
    kinds = {torch.float32: TensorProto.FLOAT, torch.bool: TensorProto.BOOL}
    constants = [
        helper.make_tensor(name, kinds[x.dtype], x.shape, x.flatten().tolist())
        for name, x in inputs.items()
        if name == "mask"
    ]
    given = {name: x for name, x in inputs.items() if name != "mask"}
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Attention", list(inputs), ["made"], **attributes),
                helper.make_node("Tanh", ["made"], ["y"]),
            ],
            "attention",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)
                for name, x in given.items()
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 23)],
        ir_version=11,
    )
    g = fastgan.load(model.SerializeToString(), backend="torch", strict=True, device="cpu")
    assert not any(step.note for step in g.plan(inputs["q"].shape[0]).steps)
    return g.run(given)["y"]


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("masked", ["no", "added", "boolean", "causal", "both"])
def test_onnx_attention(
    masked: str, heads: tuple[int, int], flat: bool, scale: float | None
) -> None:
    many, few = heads
    q, k, v = (
        torch.randn(2, count, length, size)
        for count, length, size in ((many, 20, 6), (few, 33, 6), (few, 33, 10))
    )
    added = torch.randn(many, 20, 33) if masked in ("added", "both") else None
    boolean = torch.rand(20, 33) < 0.7 if masked == "boolean" else None
    if boolean is not None:
        boolean[7] = False  # a query that is left no key gets zeros here
    mask = added if boolean is None else boolean
    attributes: dict[str, Any] = {} if scale is None else {"scale": scale}
    allowed = torch.ones(20, 33, dtype=torch.bool)
    if masked in ("causal", "both"):
        attributes["is_causal"] = 1
        allowed = allowed.tril()
    bias = torch.zeros(many, 20, 33) if added is None else added
    bias = bias.masked_fill(~(allowed if boolean is None else boolean), -math.inf)
    keys, values = (x.repeat_interleave(many // few, 1) for x in (k, v))
    expected = F.scaled_dot_product_attention(q, keys, values, bias, scale=scale)
    inputs = {"q": q, "k": k, "v": v}
    if flat:
        inputs = {name: x.transpose(1, 2).flatten(2) for name, x in inputs.items()}
        expected = expected.transpose(1, 2).flatten(2)
        attributes |= {"q_num_heads": many, "kv_num_heads": few}
    if mask is not None:
        inputs["mask"] = mask
    found = onnx_attention(inputs, tuple(expected.shape), **attributes)
    if boolean is not None:
        expected = expected.nan_to_num(0.0)
    torch.testing.assert_close(found, expected.tanh(), rtol=1e-5, atol=1e-5)


class Tokens(nn.Module):
    """Pixels as tokens through an attention of PyTorch's, and as an image again."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.maps = nn.Linear(16, 48)
        self.layer = nn.MultiheadAttention(16, 2, batch_first=True)
        self.register_buffer("mask", torch.randn(2, 16, 16))

    def forward(self, image: Tensor) -> Tensor:
        x = image.flatten(2).transpose(1, 2)
        if self.kind == "layer":
            x = x + self.layer(x, x, x, need_weights=False)[0]
        else:
            q, k, v = self.maps(x).view(-1, 16, 3, 2, 8).permute(2, 0, 3, 1, 4)
            mask = self.mask if self.kind == "mask" else None
            causal = self.kind == "causal"
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
            x = x + y.transpose(1, 2).flatten(2)
        return x.transpose(1, 2).reshape(image.shape)


@cache
def exported(kind: str, dynamo: bool, opset: int) -> tuple[bytes, nn.Module]:
    module = Tokens(kind).eval()
    with tempfile.TemporaryDirectory() as folder:
        path, x = Path(folder) / "tokens.onnx", torch.randn(1, 16, 4, 4)
        given = {"dynamo": dynamo, "opset_version": opset, "external_data": False}
        torch.onnx.export(module, (x,), path, verbose=False, **given)
        return path.read_bytes(), module


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 18), (True, 18), (True, 23)])
@pytest.mark.parametrize("kind", ["plain", "mask", "causal", "layer"])
def test_attention_of_pytorch(kind: str, dynamo: bool, opset: int) -> None:
    data, module = exported(kind, dynamo, opset)
    g = fastgan.load(data, backend="torch", strict=True, device="cpu")
    x = torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        expected = module(x)
    (found,) = g.run({g.signature.inputs[0].name: x}).values()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    ops = [step.op for step in g.plan(1).steps]
    assert ops.count(attention.OPERATOR) == 1, ops
    assert not any(step.note for step in g.plan(1).steps)
