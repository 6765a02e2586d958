"""The first seed's Keras generator as an NHWC exporter writes it, node by node.

Keras computes channels last and ONNX's convolutions channels first, so every convolution and batch
norm stands between two Transposes, the kernels are transposed in the graph, and the padding is
left to `auto_pad` and `output_shape`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def keras_nhwc(module: nn.Sequential, opset: int = 15) -> onnx.ModelProto:
    """`plain.keras_style` as a file: latent [N, 100] -> tanh images [N, 64, 64, 3]."""
    graph = _Graph()
    dense, slope, unflatten = module[0], module[1].negative_slope, module[2]
    channels, height, width = unflatten.unflattened_size
    # PyTorch's columns are in the order [C, H, W], Keras' in [H, W, C].
    columns = np.arange(dense.out_features).reshape(channels, height, width).transpose(1, 2, 0)
    columns = columns.reshape(-1)
    x = graph.node("MatMul", "latent", graph.constant(_array(dense.weight)[columns].T))
    x = graph.node("Add", x, graph.constant(_array(dense.bias)[columns]))
    x = graph.node("LeakyRelu", x, alpha=slope)
    x = graph.node("Reshape", x, graph.constant(np.array([-1, height, width, channels])))
    for layer in list(module)[3:]:
        if isinstance(layer, nn.ConvTranspose2d):
            height, width = height * layer.stride[0], width * layer.stride[1]
            kernel = graph.constant(_array(layer.weight).transpose(2, 3, 1, 0))  # [kh, kw, out, in]
            x = graph.node(
                "ConvTranspose",
                graph.node("Transpose", x, perm=[0, 3, 1, 2]),
                graph.node("Transpose", kernel, perm=[3, 2, 0, 1]),
                auto_pad="SAME_UPPER",
                kernel_shape=list(layer.kernel_size),
                output_shape=[height, width],
                strides=list(layer.stride),
            )
            x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
            x = graph.node("Add", x, graph.constant(_array(layer.bias)))
        elif isinstance(layer, nn.BatchNorm2d):
            values = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            x = graph.node(
                "BatchNormalization",
                graph.node("Transpose", x, perm=[0, 3, 1, 2]),
                *[graph.constant(_array(value)) for value in values],
                epsilon=layer.eps,
            )
            x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
        elif isinstance(layer, nn.LeakyReLU):
            x = graph.node("LeakyRelu", x, alpha=layer.negative_slope)
        else:
            assert isinstance(layer, nn.Tanh)
            x = graph.node("Tanh", x, output="images")
    latent = helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["n", 100])
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", height, width, 3])
    made = helper.make_graph(graph.nodes, "keras", [latent], [images], graph.initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and initializers, named by a count."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output


def _array(parameter: nn.Parameter) -> np.ndarray:
    return parameter.detach().numpy()
