"""Norms as exporters write them: each becomes one step, with what follows in its epilogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import fastgan
from fastgan.plan import Plan
from tests.planned import planned


def images(z: Tensor) -> Tensor:
    return z.reshape(-1, 4, 4, 4)


class Net(nn.Module):
    """Layers and a forward written in place, all parameters random."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.5)
        self._run = forward

    def forward(self, z: Tensor) -> Tensor:
        return self._run(self, z)


def unit(x: Tensor, dims: tuple[int, ...], unbiased: bool = False) -> Tensor:
    """The norm step by step, mean and variance apart."""
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / torch.sqrt(x.var(dims, unbiased=unbiased, keepdim=True) + 1e-3)


def pixel_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(torch.mean(x * x, dim=1, keepdim=True) + 1e-8)


#: name: (forward, layers, the operators of the plan, Reshapes left out)
CASES: dict[str, tuple[Callable[[Net, Tensor], Tensor], dict[str, nn.Module], list[str]]] = {
    "instance norm": (
        lambda m, z: torch.relu(m.norm(images(z))),
        {"norm": nn.InstanceNorm2d(4, affine=True)},
        ["fastgan.Normalise"],
    ),
    "group norm, curve": (
        lambda m, z: F.silu(m.norm(images(z))),
        {"norm": nn.GroupNorm(2, 4)},
        ["fastgan.Normalise"],
    ),
    "group norm of a signal, residual": (
        lambda m, z: z.reshape(-1, 4, 16) + m.norm(z.reshape(-1, 4, 16)),
        {"norm": nn.GroupNorm(2, 4)},
        ["fastgan.Normalise"],
    ),
    "group norm without parameters": (
        lambda m, z: torch.tanh(F.group_norm(images(z), 2)),
        {},
        ["fastgan.Normalise"],
    ),
    "layer norm of tokens": (
        lambda m, z: m.norm(z.reshape(-1, 4, 16)),
        {"norm": nn.LayerNorm(16)},
        ["fastgan.Normalise"],
    ),
    "layer norm of samples": (
        lambda m, z: torch.relu(F.group_norm(images(z), 1, m.norm.weight, m.norm.bias)),
        {"norm": nn.GroupNorm(1, 4)},
        ["fastgan.Normalise"],
    ),
    "over the channels of each pixel, step by step": (
        lambda m, z: torch.relu(unit(images(z), (1,))),
        {},
        ["fastgan.Normalise"],
    ),
    "over space, step by step, unbiased": (
        lambda m, z: unit(images(z), (2, 3), unbiased=True) * 1.5 - 0.25,
        {},
        ["fastgan.Normalise"],
    ),
    "over the last axis, step by step": (
        lambda m, z: unit(z.reshape(-1, 4, 16), (-1,)) * torch.arange(16.0) + 1.0,
        {},
        ["fastgan.Normalise"],
    ),
    "pixel norm of rows and of images": (
        lambda m, z: F.leaky_relu(pixel_norm(images(pixel_norm(z))), 0.2),
        {},
        ["fastgan.Normalise", "fastgan.Normalise"],
    ),
    "scale and shift from a style": (
        lambda m, z: F.leaky_relu(
            m.norm(images(z)) * (m.gain(z)[:, :, None, None] + 1) + m.shift(z)[:, :, None, None],
            0.2,
        ),
        {"norm": nn.InstanceNorm2d(4), "gain": nn.Linear(64, 4), "shift": nn.Linear(64, 4)},
        ["fastgan.Normalise", "fastgan.Linear", "fastgan.Linear", "Unsqueeze", "Unsqueeze", "Add"],
    ),
    "scale from a style, constant shift": (
        lambda m, z: (
            m.norm(images(z)) * m.gain(z)[:, :, None, None] + torch.arange(4.0)[:, None, None]
        ),
        {"norm": nn.InstanceNorm2d(4), "gain": nn.Linear(64, 4)},
        [],
    ),
    "a norm whose mean is of something else stays": (
        lambda m, z: (
            (images(z) - 0.5 * images(z).mean((2, 3), keepdim=True))
            / torch.sqrt(images(z).var((2, 3), unbiased=False, keepdim=True) + 1e-3)
        ),
        {},
        ["Sub", "Mul", "ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div"],
    ),
}


def plan_of(path: Path, module: nn.Module, backend: str = "torch", batch: int = 3) -> Plan:
    """The plan, after a run on fresh inputs has been found to be right."""
    generator = fastgan.load(path, device="cpu", backend=backend)
    z = torch.randn(batch, 64)
    with torch.inference_mode():
        expected = module(z)
    result = next(iter(generator.run({generator.signature.inputs[0].name: z}).values()))
    # By hand the mean is taken twice, which is all that the two differ by.
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=2e-5)
    plan = planned(generator, batch) if backend == "torch" else generator.plan(batch)
    assert plan is not None
    return plan


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", CASES)
def test_norms(name: str, exporter: str, tmp_path: Path) -> None:
    forward, layers, expected = CASES[name]
    module, path = Net(forward, **layers).eval(), tmp_path / "net.onnx"
    if "style" in name and exporter == "torchscript":
        pytest.skip("PyTorch's TorchScript exporter does not write this instance norm")
    fastgan.export(
        module, path, latent=64, range=(-1.0, 1.0), exporter=exporter, optimize=False, verify=False
    )
    plan = plan_of(path, module)
    ops = [step.op for step in plan.steps if step.op not in ("Reshape", "Identity")]
    if "stays" in name:
        assert "fastgan.Normalise" not in ops
    elif "style" in name:  # how the rows become [N, C, 1, 1] is the exporter's choice
        assert ops.count("fastgan.Normalise") == 1
        assert not {"Mul", "LeakyRelu", "InstanceNormalization"} & set(ops)
    else:
        assert sorted(ops) == sorted(expected)
    if exporter == "dynamo" and not torch.cuda.is_available():  # by the kernels, interpreted
        plan_of(path, module, "triton")


def test_batch_norm_as_an_instance_norm(tmp_path: Path) -> None:
    """[1, N * C, H, W] by its own statistics, with a scale from data: as StarGAN v2 has it."""
    constant = {
        "apart": [1, 12, 4, 4],
        "back": [3, 4, 4, 4],
        "row": [12],
    }
    initializers = [
        numpy_helper.from_array(torch.tensor(value).numpy(), name)
        for name, value in constant.items()
    ]
    initializers += [
        numpy_helper.from_array(torch.full((12,), value).numpy(), name)
        for name, value in (("zeros", 0.0), ("ones", 1.0))
    ]
    nodes = [
        helper.make_node("Reshape", ["x", "apart"], ["flat"]),
        helper.make_node("Reshape", ["style", "row"], ["gain"]),
        helper.make_node(
            "BatchNormalization",
            ["flat", "gain", "zeros", "zeros", "ones"],
            ["norm", "mean", "variance"],
            training_mode=1,
            epsilon=1e-3,
        ),
        helper.make_node("Reshape", ["norm", "back"], ["y"]),
        helper.make_node("Relu", ["y"], ["out"]),
    ]
    ports = [("x", (3, 4, 4, 4)), ("style", (3, 4))]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ports]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, (3, 4, 4, 4))
    graph = helper.make_graph(nodes, "norm", values, [out], initializers)
    path = tmp_path / "norm.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path
    )
    x, style = torch.randn(3, 4, 4, 4), torch.randn(3, 4)
    expected = F.relu(F.instance_norm(x, eps=1e-3) * style[:, :, None, None])
    for backend in ("torch", *([] if torch.cuda.is_available() else ["triton"])):
        generator = fastgan.load(path, device="cpu", backend=backend)
        made = generator.run({"x": x, "style": style})["out"]
        torch.testing.assert_close(made, expected, atol=2e-5, rtol=2e-5)
        plan = generator.plan(3)
        assert plan is not None
        steps = [step for step in plan.steps if step.op != "Reshape"]
        assert [step.op for step in steps] == ["fastgan.Normalise"], backend
        assert steps[0].epilogue.activation == "relu"
