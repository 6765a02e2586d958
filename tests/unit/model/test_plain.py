"""`fastgan.model.plain`: ONNX Runtime's own operators, one at a time, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastgan
from fastgan.model.file import read

RNG = np.random.default_rng(0)
OPSETS = (("", 17), ("com.microsoft", 1), ("com.microsoft.nchwc", 1), ("com.ms.internal.nhwc", 17))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[Any, ...]],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    output: tuple[Any, ...] | None = None,
) -> bytes:
    """A model of output "y"."""
    ports = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)]
    tensors = [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", ports, made, tensors)
    domains = [helper.make_opsetid(d, v) for d, v in (("", opset), *OPSETS[1:])]
    made_model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    return made_model.SerializeToString()


def node(op: str, *inputs: str, domain: str = "com.microsoft", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), ["y"], domain=domain, **attributes)


def runtime(data: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options).run(None, feeds)[0]


def ours(data: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    generator = fastgan.load(data, strict=True, backend="torch")
    assert all(not n.domain for n in read(data).model.graph)
    return generator.run(feeds)["y"].numpy()


IMAGE, WIDE = ("n", 4, 6, 6), ("n", 5, 8)
CONV = {"w": normal(6, 4, 3, 3), "b": normal(6)}
CASES = {
    "relu": (node("FusedConv", "x", "w", "b", activation="Relu"), IMAGE, CONV),
    "no bias": (node("FusedConv", "x", "w", activation="Tanh"), IMAGE, CONV),
    "leaky": (
        node("FusedConv", "x", "w", "b", activation="LeakyRelu", activation_params=[0.3]),
        IMAGE,
        CONV,
    ),
    "clip": (
        node("FusedConv", "x", "w", "b", activation="Clip", activation_params=[-0.5, 1.5]),
        IMAGE,
        CONV,
    ),
    "hard sigmoid": (
        node("FusedConv", "x", "w", "b", activation="HardSigmoid", activation_params=[0.1, 0.4]),
        IMAGE,
        CONV,
    ),
    "strides": (
        node("FusedConv", "x", "w", "b", activation="Sigmoid", strides=[2, 1], pads=[1, 0, 1, 2]),
        IMAGE,
        CONV,
    ),
    "residual": (
        node("FusedConv", "x", "w", "b", "z", activation="Relu", pads=[1, 1, 1, 1]),
        (2, 4, 6, 6),
        {"w": normal(4, 4, 3, 3), "b": normal(4), "z": normal(2, 4, 6, 6)},
    ),
    "gelu": (node("Gelu", "x"), WIDE, {}),
    "bias gelu": (node("BiasGelu", "x", "b"), WIDE, {"b": normal(8)}),
    "fast gelu": (node("FastGelu", "x"), WIDE, {}),
    "fast gelu of a sum": (node("FastGelu", "x", "b"), WIDE, {"b": normal(8)}),
    "quick gelu": (node("QuickGelu", "x", alpha=1.4), WIDE, {}),
    "silu": (node("QuickGelu", "x", alpha=1.0), WIDE, {}),
    "matmul": (node("FusedMatMul", "x", "w", alpha=0.3), WIDE, {"w": normal(8, 3)}),
    "matmul of B'": (node("FusedMatMul", "x", "w", transB=1), WIDE, {"w": normal(3, 8)}),
    "matmul of A'": (node("FusedMatMul", "x", "w", transA=1), WIDE, {"w": normal(2, 5, 3)}),
    "matmul across": (
        node("FusedMatMul", "x", "w", transBatchA=1, transA=1, alpha=2.0),
        (5, 3, 4),
        {"w": normal(3, 5, 7)},
    ),
    "matmul across B": (
        node("FusedMatMul", "x", "w", transBatchB=1),
        (3, 4, 5),
        {"w": normal(5, 3, 7)},
    ),
    "gemm": (
        node(
            *("FusedGemm", "x", "w", "b"),
            activation="LeakyRelu",
            activation_alpha=0.2,
            alpha=0.5,
            transB=1,
        ),
        ("n", 8),
        {"w": normal(3, 8), "b": normal(3)},
    ),
    "skip norm": (
        node("SkipLayerNormalization", "x", "z", "g", "b", "c", epsilon=1e-5),
        (2, 5, 8),
        {"z": normal(2, 5, 8), "g": normal(8), "b": normal(8), "c": normal(8)},
    ),
    "simplified norm": (
        node("SimplifiedLayerNormalization", "x", "g", domain="", axis=-1, epsilon=1e-5),
        (2, 5, 8),
        {"g": normal(8)},
    ),
    "skip simplified norm": (
        node("SkipSimplifiedLayerNormalization", "x", "z", "g", epsilon=1e-5),
        (2, 5, 8),
        {"z": normal(2, 5, 8), "g": normal(8)},
    ),
    "grid sample": (
        node("GridSample", "x", "g", padding_mode="border", align_corners=1),
        (2, 4, 6, 6),
        {"g": normal(2, 5, 7, 2).clip(-1, 1)},
    ),
}


#: What is written in another way, or is none of ONNX's own, at an older opset.
OLDER = ("clip", "bias gelu", "skip norm", "skip simplified norm", "grid sample")


@pytest.mark.parametrize(
    ("name", "opset"), [*((name, 17) for name in CASES), *((name, 11) for name in OLDER)]
)
def test_agrees_with_onnx_runtime(name: str, opset: int) -> None:
    made, shape, weights = CASES[name]
    data = model([made], {"x": shape}, weights, opset)
    feeds = {"x": normal(*(2 if size == "n" else size for size in shape))}
    np.testing.assert_allclose(ours(data, feeds), runtime(data, feeds), rtol=2e-5, atol=2e-5)


def test_a_matmul_of_unknown_rank_is_turned() -> None:
    """ONNX Runtime writes no shapes of what lies between into its files."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("FusedMatMul", ["a", "x"], ["y"], domain="com.microsoft", transA=1),
    ]
    data = model(nodes, {"x": ("n", 3, 5, 8)})
    feeds = {"x": normal(2, 3, 5, 8)}
    np.testing.assert_allclose(ours(data, feeds), runtime(data, feeds), rtol=2e-5, atol=2e-5)
    assert fastgan.load(data).signature.made.apart  # the samples are followed through it


@pytest.mark.parametrize("op", ["NhwcConv", "NhwcFusedConv", "com.ms.internal.nhwc"])
def test_convolutions_channels_last(op: str) -> None:
    weight, x = normal(6, 4, 3, 3), normal(2, 4, 6, 7)
    last = x.transpose(0, 2, 3, 1)
    stored = weight.transpose(0, 2, 3, 1) if op == "NhwcConv" else weight
    given = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    made = node(op, "x", "w", **given)
    if "." in op:
        made = node("Conv", "x", "w", domain=op, **given)
    got = ours(model([made], {"x": last.shape}, {"w": stored}), {"x": last})
    plain = model([node("Conv", "x", "w", domain="", **given)], {"x": x.shape}, {"w": weight})
    want = runtime(plain, {"x": x}).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "made",
    [
        node("FusedConv", "x", "w", activation="Swish"),
        node("FusedConv", "x", "w", activation="Relu", twist=1),
        node("FusedConv", "x"),
        node("FusedGemm", "x", "w", activation="ScaledTanh"),
        node("Gelu"),
        node("Conv", "x", "w", domain="com.microsoft.nchwc"),
        node("Twist", "x", domain="com.microsoft.nchwc"),
    ],
)
def test_what_is_not_understood_stays_as_it_is(made: onnx.NodeProto) -> None:
    """Even where the node breaks its operator's rules; nothing is left of the attempt."""
    data = model([made], {"x": IMAGE}, {"w": normal(6, 4, 3, 3)})
    graph = read(data).model.graph
    assert [(n.domain, n.op_type) for n in graph] == [(made.domain, made.op_type)]
    assert list(graph.initializers) == ["w"]


# Blocks of channels -------------------------------------------------------------------------------


def blocked(weight: np.ndarray, block: int) -> np.ndarray:
    """[O, I, h, w] as [O/b, I/b, h, w, b of I, b of O], written element by element."""
    _out, inner, height, width = weight.shape
    flat = np.zeros(weight.size, np.float32)
    for o, i, h, w in np.ndindex(*weight.shape):
        place = ((o // block * (inner // block) + i // block) * height + h) * width + w
        flat[(place * block + i % block) * block + o % block] = weight[o, i, h, w]
    return flat.reshape(weight.shape)


def blocked_outputs(weight: np.ndarray, block: int) -> np.ndarray:
    """[O, I, h, w] as [O/b, I, h, w, b of O]."""
    _out, inner, height, width = weight.shape
    flat = np.zeros(weight.size, np.float32)
    for o, i, h, w in np.ndindex(*weight.shape):
        place = ((o // block * inner + i) * height + h) * width + w
        flat[place * block + o % block] = weight[o, i, h, w]
    return flat.reshape(weight.shape)


@pytest.mark.parametrize("block", [8, 16])
def test_weights_in_blocks_of_either_width(block: int) -> None:
    """As another processor's ONNX Runtime writes them: 20 channels fill 3 blocks of 8, 2 of 16."""
    first, second, third = normal(20, 3, 3, 3), normal(20, 1, 3, 3), normal(5, 20, 1, 1)
    whole, tail = -(-20 // block) * block, -(-5 // block) * block
    padded = np.zeros((whole, 3, 3, 3), np.float32)
    padded[:20] = first
    deep = np.zeros((whole, 1, 3, 3), np.float32)
    deep[:20] = second
    last = np.zeros((tail, whole, 1, 1), np.float32)
    last[:5, :20] = third
    weights = {
        "a": blocked_outputs(padded, block),
        "d": blocked_outputs(deep, block),
        "l": blocked(last, block),
    }
    geometry = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}

    def nchwc(op: str, *inputs: str, out: str, **attributes: Any) -> onnx.NodeProto:
        made = node(op, *inputs, domain="com.microsoft.nchwc", **attributes)
        made.output[:] = [out]
        return made

    nodes = [
        nchwc("Conv", "x", "a", out="1", **geometry),
        nchwc("Conv", "1", "d", "", "1", out="2", group=whole, activation="Relu", **geometry),
        nchwc("ReorderOutput", "2", out="3", channels=20),
        helper.make_node("Sigmoid", ["3"], ["4"]),
        nchwc("ReorderInput", "4", out="5"),
        nchwc("Upsample", "5", out="6", scales=[1, 1, 2, 2]),
        nchwc("AveragePool", "6", out="7", kernel_shape=[2, 2], strides=[1, 1]),
        nchwc("Conv", "7", "l", out="8", kernel_shape=[1, 1]),
        nchwc("ReorderOutput", "8", out="y", channels=5),
    ]
    x = normal(2, 3, 6, 5)
    got = ours(model(nodes, {"x": ("n", 3, 6, 5)}, weights), {"x": x})

    def plain(op: str, *inputs: str, out: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, list(inputs), [out], **attributes)

    nodes = [
        plain("Conv", "x", "a", out="1", **geometry),
        plain("Conv", "1", "d", out="2", group=20, **geometry),
        plain("Add", "2", "1", out="sum"),
        plain("Relu", "sum", out="3"),
        plain("Sigmoid", "3", out="4"),
        plain("Resize", "4", "", "s", out="6", coordinate_transformation_mode="asymmetric"),
        plain("AveragePool", "6", out="7", kernel_shape=[2, 2], strides=[1, 1]),
        plain("Conv", "7", "l", out="y", kernel_shape=[1, 1]),
    ]
    scales = np.array([1, 1, 2, 2], np.float32)
    weights = {"a": first, "d": second, "l": third, "s": scales}
    want = runtime(model(nodes, {"x": ("n", 3, 6, 5)}, weights), {"x": x})
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
