"""Fusions: each fires where it may, leaves alone what it must, and never changes the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor, nn

import fastgan
from tests.networks import randomise_batch_norms
from tests.planned import planned


class Net(nn.Module):
    """Layers and a forward written in place."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._run = forward

    def forward(self, z: Tensor) -> Tensor:
        return self._run(self, z)


def images(z: Tensor) -> Tensor:
    return z.reshape(-1, 4, 4, 4)


SHARED = nn.BatchNorm2d(6)

#: name: (forward, layers, the operators of the plan, Reshape left out)
CASES: dict[str, tuple[Callable[[Net, Tensor], Tensor], dict[str, nn.Module], list[str]]] = {
    "norm and activation move into a convolution": (
        lambda m, z: F.leaky_relu(m.norm(m.conv(images(z))), 0.3),
        {"conv": nn.Conv2d(4, 6, 3, padding=1), "norm": nn.BatchNorm2d(6)},
        ["fastgan.Conv"],
    ),
    "grouped transposed convolution with norm": (
        lambda m, z: torch.sigmoid(m.norm(m.up(images(z)))),
        {"up": nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), "norm": nn.BatchNorm2d(6)},
        ["fastgan.ConvTranspose"],
    ),
    "norm behind rows that become images": (
        lambda m, z: torch.relu(m.norm(m.dense(z).reshape(-1, 6, 2, 2))),
        {"dense": nn.Linear(64, 24), "norm": nn.BatchNorm2d(6)},
        ["fastgan.Linear"],
    ),
    "norm of rows": (
        lambda m, z: torch.tanh(m.norm(m.dense(z))),
        {"dense": nn.Linear(64, 6), "norm": nn.BatchNorm1d(6)},
        ["fastgan.Linear"],
    ),
    "a norm behind an activation stays": (
        lambda m, z: m.norm(torch.relu(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 6, 1), "norm": nn.BatchNorm2d(6)},
        ["fastgan.Conv", "BatchNormalization"],
    ),
    "a product used twice keeps its own value": (
        lambda m, z: (lambda y: torch.relu(y) + torch.tanh(y))(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 6, 3)},
        ["fastgan.Conv", "Relu", "Tanh", "Add"],
    ),
    "a constant per channel becomes bias": (
        lambda m, z: torch.relu(m.conv(images(z)) + torch.arange(6.0).reshape(1, 6, 1, 1)),
        {"conv": nn.Conv2d(4, 6, 3, bias=False)},
        ["fastgan.Conv"],
    ),
    "a constant per pixel becomes a residual": (
        lambda m, z: m.conv(images(z)) + torch.arange(16.0).reshape(1, 1, 4, 4),
        {"conv": nn.Conv2d(4, 6, 1)},
        ["fastgan.Conv"],
    ),
    "a second activation stays": (
        lambda m, z: torch.tanh(torch.relu(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 6, 1)},
        ["fastgan.Conv", "Tanh"],
    ),
    "two norms of one product stay apart": (
        lambda m, z: (lambda y: m.first(y) - m.second(y))(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 6, 1), "first": nn.BatchNorm2d(6), "second": nn.BatchNorm2d(6)},
        ["fastgan.Conv", "BatchNormalization", "BatchNormalization", "Sub"],
    ),
    "one layer applied twice": (
        lambda m, z: m.conv(torch.relu(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 4, 3, padding=1)},
        ["fastgan.Conv", "fastgan.Conv"],
    ),
    "strided, dilated, uneven padding": (
        lambda m, z: torch.relu(m.conv(F.pad(images(z), (0, 1, 2, 1)))),
        {"conv": nn.Conv2d(4, 6, (3, 2), (2, 1), dilation=(1, 2))},
        ["fastgan.Conv"],
    ),
    "reflected, then zeros": (
        lambda m, z: m.zeros(torch.relu(m.mirror(F.pad(images(z), (1, 2, 0, 1), mode="reflect")))),
        {"mirror": nn.Conv2d(4, 6, 3), "zeros": nn.Conv2d(6, 3, 3, padding=1)},
        ["fastgan.Conv", "fastgan.Conv"],
    ),
    "edges repeated, even": (
        lambda m, z: m.conv(F.pad(images(z), (1, 1, 1, 1), mode="replicate")),
        {"conv": nn.Conv2d(4, 6, 3)},
        ["fastgan.Conv"],
    ),
    "reflected onto a convolution that pads": (
        lambda m, z: m.conv(F.pad(images(z), (1, 1, 1, 1), mode="reflect")),
        {"conv": nn.Conv2d(4, 6, 3, padding=1)},
        ["Pad", "fastgan.Conv"],
    ),
    "padded by ones": (
        lambda m, z: m.conv(F.pad(images(z), (1, 1, 1, 1), value=1.0)),
        {"conv": nn.Conv2d(4, 6, 3)},
        ["Pad", "fastgan.Conv"],
    ),
    "upsampled, reflected, convolved": (
        lambda m, z: torch.tanh(m.conv(m.pad(F.interpolate(images(z), scale_factor=2)))),
        {"conv": nn.Conv2d(4, 6, 3), "pad": nn.ReflectionPad2d(1)},
        ["fastgan.Conv"],
    ),
    "upsampled by three": (
        lambda m, z: m.conv(F.interpolate(images(z), scale_factor=3)),
        {"conv": nn.Conv2d(4, 6, 3)},
        ["Resize", "fastgan.Conv"],
    ),
    "upsampled linearly": (
        lambda m, z: m.conv(F.interpolate(images(z), scale_factor=2, mode="bilinear")),
        {"conv": nn.Conv2d(4, 6, 3)},
        ["Resize", "fastgan.Conv"],
    ),
    "shuffled, then activated": (
        lambda m, z: F.leaky_relu(m.shuffle(m.conv(images(z))), 0.3),
        {"conv": nn.Conv2d(4, 12, 3), "shuffle": nn.PixelShuffle(2)},
        ["fastgan.Conv"],
    ),
    "activated, then shuffled": (
        lambda m, z: m.shuffle(torch.tanh(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 18, 3), "shuffle": nn.PixelShuffle(3)},
        ["fastgan.Conv"],
    ),
    "a residual, then an activation": (
        lambda m, z: torch.relu(images(z) + m.norm(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 4, 3, padding=1), "norm": nn.BatchNorm2d(4)},
        ["fastgan.Conv"],
    ),
    "a residual with another activation": (
        lambda m, z: torch.tanh(m.conv(images(z)) + images(z)),
        {"conv": nn.Conv2d(4, 4, 3, padding=1, bias=False)},
        ["fastgan.Conv"],
    ),
    "a residual behind an activation stays": (
        lambda m, z: images(z) + torch.tanh(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 4, 3, padding=1)},
        ["fastgan.Conv", "Add"],
    ),
    "a sum that broadcasts stays": (
        lambda m, z: images(z) + m.conv(images(z)),
        {"conv": nn.Conv2d(4, 1, 3, padding=1)},
        ["fastgan.Conv", "Add"],
    ),
    "two convolutions summed": (
        lambda m, z: m.conv(F.interpolate(images(z), scale_factor=2)) + m.up(images(z)),
        {"conv": nn.Conv2d(4, 4, 3, padding=1), "up": nn.ConvTranspose2d(4, 4, 4, 2, 1)},
        ["fastgan.Conv", "fastgan.ConvTranspose"],
    ),
    "a convolution doubled": (
        lambda m, z: (lambda y: y + y)(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 4, 3)},
        ["fastgan.Conv", "Add"],
    ),
    "a gain of 0.2 on a residual": (
        lambda m, z: images(z) + 0.2 * m.conv(images(z)),
        {"conv": nn.Conv2d(4, 4, 3, padding=1)},
        ["fastgan.Conv"],
    ),
    "a gain per channel, and a quotient": (
        lambda m, z: m.up(images(z)) * torch.arange(1.0, 7.0).reshape(6, 1, 1) / 3.0,
        {"up": nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2)},
        ["fastgan.ConvTranspose"],
    ),
    "a gain on rows that become images": (
        lambda m, z: torch.relu(0.5 * m.dense(z).reshape(-1, 6, 2, 2)),
        {"dense": nn.Linear(64, 24)},
        ["fastgan.Linear"],
    ),
    "one slope for all channels": (
        lambda m, z: m.act(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 6, 3), "act": nn.PReLU()},
        ["fastgan.Conv"],
    ),
    "a slope per channel": (
        lambda m, z: m.act(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 6, 3), "act": nn.PReLU(6)},
        ["fastgan.Conv"],
    ),
    "a slope per channel behind a shuffle": (
        lambda m, z: m.act(m.shuffle(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 8, 3), "shuffle": nn.PixelShuffle(2), "act": nn.PReLU(2)},
        ["fastgan.Conv"],
    ),
    "a slope per channel before a shuffle stays there": (
        lambda m, z: m.shuffle(m.act(m.conv(images(z)))),
        {"conv": nn.Conv2d(4, 8, 3), "shuffle": nn.PixelShuffle(2), "act": nn.PReLU(8)},
        ["fastgan.Conv", "DepthToSpace"],
    ),
    "slopes of rows that become images": (
        lambda m, z: m.up(
            m.act(m.dense(z)).reshape(-1, 4, 2, 2)
            + m.act(m.other(z)).reshape(-1, 2, 2, 4).permute(0, 3, 1, 2)
        ),
        {
            "dense": nn.Linear(64, 16),
            "other": nn.Linear(64, 16),
            "act": nn.PReLU(16),
            "up": nn.ConvTranspose2d(4, 3, 4, 2, 1),
        },
        ["fastgan.Linear", "fastgan.Linear", "Transpose", "Add", "fastgan.ConvTranspose"],
    ),
    "a residual of rows that become images": (
        lambda m, z: m.up(
            torch.relu(m.dense(z) + torch.tanh(z)).reshape(-1, 4, 4, 4).permute(0, 3, 1, 2)
        ),
        {"dense": nn.Linear(64, 64), "up": nn.ConvTranspose2d(4, 3, 4, 2, 1)},
        ["fastgan.Linear", "Tanh", "Transpose", "fastgan.ConvTranspose"],
    ),
    "a relu before a leaky relu of the same": (
        lambda m, z: (lambda y: torch.relu(y) - 2 * F.leaky_relu(y, 0.3))(m.conv(images(z))),
        {"conv": nn.Conv2d(4, 6, 3)},
        ["fastgan.Conv", "Relu", "LeakyRelu", "Mul", "Sub"],
    ),
    "a curve by its name": (
        lambda m, z: F.silu(m.up(F.gelu(m.conv(F.mish(m.dense(z)).reshape(-1, 4, 2, 2))))),
        {
            "dense": nn.Linear(64, 16),
            "conv": nn.Conv2d(4, 6, 1),
            "up": nn.ConvTranspose2d(6, 3, 4, 2, 1),
        },
        ["fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose"],
    ),
    "curves with a parameter, and piecewise ones": (
        lambda m, z: F.hardswish(m.b(F.elu(m.a(images(z)), 0.7))),
        {"a": nn.Conv2d(4, 5, 1), "b": nn.Conv2d(5, 3, 1)},
        ["fastgan.Conv", "fastgan.Conv"],
    ),
    "a residual onto a transposed convolution": (
        lambda m, z: torch.relu(m.up(images(z)) + F.interpolate(images(z), scale_factor=2)),
        {"up": nn.ConvTranspose2d(4, 4, 4, 2, 1)},
        ["fastgan.ConvTranspose", "Resize"],
    ),
    "the skip connection of a U-Net": (
        lambda m, z: (
            lambda x, y: m.last(torch.relu(torch.cat([m.up(F.leaky_relu(y, 0.2)), x, y], 1)))
        )(torch.tanh(images(z)), m.down(images(z))),
        {
            "down": nn.Conv2d(4, 6, 3, 1, 1),
            "up": nn.Conv2d(6, 5, 1),
            "last": nn.Conv2d(15, 3, 1),
        },
        ["fastgan.Conv", "fastgan.Conv", "Relu", "Tanh", "Relu", "Concat", "fastgan.Conv"],
    ),
    "channels last around a convolution and a constant": (
        lambda m, z: m.conv(
            torch.relu(
                m.first(images(z)).permute(0, 2, 3, 1) + torch.arange(6.0) + torch.tensor([[0.5]])
            ).permute(0, 3, 1, 2)
        ),
        {"first": nn.Conv2d(4, 6, 3), "conv": nn.Conv2d(6, 3, 1)},
        ["fastgan.Conv", "fastgan.Conv"],
    ),
    "channels-last rows that become images": (
        lambda m, z: m.up(F.leaky_relu(m.dense(z), 0.2).reshape(-1, 2, 3, 4).permute(0, 3, 1, 2)),
        {"dense": nn.Linear(64, 24), "up": nn.ConvTranspose2d(4, 2, 4, 2, 1)},
        ["fastgan.Linear", "fastgan.ConvTranspose"],
    ),
    "transposed with output padding and few channels": (
        lambda m, z: torch.tanh(m.up(images(z))),
        {"up": nn.ConvTranspose2d(4, 2, 5, 3, 2, output_padding=2)},
        ["fastgan.ConvTranspose"],
    ),
    "one-dimensional": (
        lambda m, z: torch.tanh(m.up(torch.relu(m.conv(z.reshape(-1, 4, 16))))),
        {"conv": nn.Conv1d(4, 6, 3), "up": nn.ConvTranspose1d(6, 2, 4, 2, 1)},
        ["fastgan.Conv", "fastgan.ConvTranspose"],
    ),
    "three-dimensional": (
        lambda m, z: torch.tanh(m.up(z.reshape(-1, 8, 2, 2, 2))),
        {"up": nn.ConvTranspose3d(8, 2, 4, 2, 1)},
        ["fastgan.ConvTranspose"],
    ),
}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", CASES)
def test_fusions(name: str, exporter: str, tmp_path: Path) -> None:
    forward, layers, expected = CASES[name]
    module = randomise_batch_norms(Net(forward, **layers), torch.Generator().manual_seed(0))
    path = tmp_path / "net.onnx"
    fastgan.export(
        module, path, latent=64, range=(-1.0, 1.0), exporter=exporter, optimize=False, verify=False
    )
    generator = fastgan.load(path, device="cpu", backend="torch")
    z = torch.randn(3, 64)
    with torch.inference_mode():
        reference = module(z)
    result = next(iter(generator.run({generator.signature.inputs[0].name: z}).values()))
    assert torch.allclose(result, reference, atol=1e-5, rtol=1e-5)
    plan = planned(generator, 3)
    ops = [step.op for step in plan.steps if step.op not in ("Reshape", "Identity")]
    assert sorted(ops) == sorted(expected)


def test_an_output_named_twice() -> None:
    """A transposition that moves nothing becomes an Identity, which hands its name on."""
    like = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("Transpose", ["a"], ["y"], perm=[0, 1]),
    ]
    y = like("y", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "g", [like("z", TensorProto.FLOAT, [1, 5])], [y, y])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    generator = fastgan.load(model.SerializeToString(), device="cpu", backend="torch")
    z = torch.randn(1, 5)
    assert torch.equal(generator.run({"z": z})["y"], z.relu())
