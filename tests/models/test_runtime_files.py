"""Files that ONNX Runtime itself wrote: saved by its optimiser, and by its quantiser."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from torch import Tensor, nn

import fastgan
from fastgan.host import processor
from tests.networks.dcgan import dcgan
from tests.networks.images.cyclegan import cyclegan
from tests.networks.images.srgan import SRGAN

Levels = onnxruntime.GraphOptimizationLevel
LEVELS = {
    "extended": Levels.ORT_ENABLE_EXTENDED,
    "all": Levels.ORT_ENABLE_ALL,
}


class Restorer(nn.Module):
    """A transformer over pixels: layer norms, attention, Gelu, a pixel shuffle."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.head, self.norm = nn.Conv2d(3, width, 3, 1, 1), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.again = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))
        self.tail = nn.Conv2d(width, 12, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        rows = y.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(rows)).chunk(3, -1)
        rows = rows + self.out(((q @ k.transpose(-1, -2)) * 0.2).softmax(-1) @ v)
        rows = rows + self.mlp(self.again(rows))
        return F.pixel_shuffle(self.tail(rows.transpose(1, 2).reshape(y.shape) + y), 2)


class Mixed(nn.Module):
    """Channels that fill no block, a depthwise layer, pools, a gate, a concatenation, Clip."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 20, 3, 1, 1), nn.Conv2d(20, 36, 3, 2, 1)
        self.norm, self.deep = nn.BatchNorm2d(36), nn.Conv2d(36, 36, 3, 1, 1, groups=36)
        self.c, self.gate = nn.Conv2d(36, 36, 3, 1, 1), nn.Conv2d(36, 36, 1)
        self.d, self.e = nn.Conv2d(72, 20, 3, 1, 1), nn.Conv2d(20, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.relu(self.norm(self.b(F.leaky_relu(self.a(x), 0.2)))), 2)
        deep = F.hardsigmoid(self.deep(y))
        y = F.relu(y + self.c(deep))
        y = y * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)))
        y = F.interpolate(torch.cat([y, deep], 1), scale_factor=2, mode="nearest")
        y = F.interpolate(F.hardtanh(self.d(y), 0.0, 6.0), scale_factor=2, mode="nearest")
        return torch.tanh(self.e(y))


NETWORKS = {
    "dcgan": (lambda: dcgan(16, 4, 3, seed=1), (16, 1, 1)),
    "srgan": (lambda: SRGAN(12), (3, 8, 8)),
    "cyclegan": (lambda: cyclegan(8, 1), (3, 16, 16)),
    "restorer": (Restorer, (3, 8, 8)),
    "mixed": (Mixed, (3, 16, 16)),
}


#: Those that round on the way: instance norms over a few pixels make one step many.
ROUNDED = ("dcgan", "restorer", "mixed")


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a network as PyTorch does."""

    @functools.cache
    def written(name: str) -> Path:
        make, shape = NETWORKS[name]
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp(name) / "plain.onnx"
        torch.onnx.export(
            make().eval(),
            (torch.randn(1, *shape),),
            path,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            opset_version=17,
        )
        return path

    return written


def example(path: Path, n: int = 3, seed: int = 9) -> np.ndarray:
    """Inputs of a file."""
    ports = onnx.load(path).graph.input
    shape = [d.dim_value for d in ports[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def runtime(path: Path, x: np.ndarray, level: Levels, written: Path | None = None) -> np.ndarray:
    """ONNX Runtime's result; it writes the file that it made of this one to `written`."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    if written is not None:
        options.optimized_model_filepath = str(written)
    return onnxruntime.InferenceSession(str(path), options).run(None, {"x": x})[0]


def ours(path: Path, x: np.ndarray, precision: str = "fp32") -> np.ndarray:
    generator = fastgan.load(path, strict=True, backend="torch", precision=precision)
    return generator.run({"x": x})["y"].float().numpy()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("level", LEVELS)
def test_optimised_files_plan_natively(name: str, level: str, write: Callable[[str], Path]) -> None:
    """Same results, same signature, and samples apart as in the plain file."""
    written = write(name)
    x, path = example(written), written.with_name(f"{level}.onnx")
    want = runtime(written, x, Levels.ORT_DISABLE_ALL)
    runtime(written, x, LEVELS[level], path)
    span = float(np.ptp(want)) / 2
    np.testing.assert_allclose(ours(path, x), want, rtol=0, atol=2e-5 * span)
    plain, made = (fastgan.load(p, backend="torch").signature for p in (written, path))
    assert made.inputs == plain.inputs
    assert (made.made.range, made.made.apart) == (plain.made.range, plain.made.apart)
    assert fastgan.load(path, backend="ort").backend == "ort"  # the file as it is


class Reader(CalibrationDataReader):
    """Three batches to calibrate with."""

    def __init__(self, path: Path) -> None:
        self._left = iter([{"x": example(path, 2, seed)} for seed in range(3)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize(
    ("form", "kind", "per_channel"),
    [
        (QuantFormat.QDQ, QuantType.QUInt8, False),
        (QuantFormat.QDQ, QuantType.QInt8, True),
        (QuantFormat.QOperator, QuantType.QUInt8, True),
    ],
)
def test_quantised_files_plan_natively(
    name: str,
    form: QuantFormat,
    kind: QuantType,
    per_channel: bool,
    write: Callable[[str], Path],
) -> None:
    """Within a step of the last quantiser of what ONNX Runtime makes of the file as it is written;
    of what its optimiser makes of it, within a step too.
    """
    written = write(name)
    path = written.with_name(f"{form.name}-{kind.name}.onnx")
    quantize_static(
        written,
        path,
        Reader(written),
        quant_format=form,
        per_channel=per_channel,
        activation_type=kind,
        weight_type=QuantType.QInt8,
    )
    x, optimised = example(written), path.with_name(f"{path.stem}-all.onnx")
    literal = runtime(path, x, Levels.ORT_DISABLE_ALL)
    runtime(path, x, Levels.ORT_ENABLE_ALL, optimised)
    step = 1.001 * np.diff(np.unique(literal)).max() + 1e-6
    got = ours(path, x)
    np.testing.assert_allclose(got, literal, rtol=0, atol=step)
    assert np.mean(np.abs(got - literal) > step / 2) < 0.01  # and that seldom
    np.testing.assert_allclose(ours(optimised, x), literal, rtol=0, atol=step)
    plain, made = (fastgan.load(p, backend="torch").signature for p in (written, path))
    assert made.inputs == plain.inputs
    assert (made.made.range, made.made.apart) == (plain.made.range, True)


def test_dynamically_quantised_files_plan_natively(write: Callable[[str], Path]) -> None:
    written = write("mixed")
    path = written.with_name("dynamic.onnx")
    quantize_dynamic(written, path)
    x = example(written)
    want = runtime(path, x, Levels.ORT_DISABLE_ALL)
    np.testing.assert_allclose(ours(path, x), want, rtol=0, atol=2e-5 * np.ptp(want))


@pytest.mark.skipif(not processor.has_bfloat16(), reason="bf16 on oneDNN")
def test_quantised_files_in_bf16(write: Callable[[str], Path]) -> None:
    """bf16 has the digits of a step or so: what it rounds comes to the next one at times."""
    written = write("mixed")
    path = written.with_name("bf16.onnx")
    quantize_static(written, path, Reader(written), quant_format=QuantFormat.QDQ)
    x = example(written)
    want = runtime(path, x, Levels.ORT_DISABLE_ALL)
    error = np.abs(ours(path, x, "bf16") - want)
    assert error.mean() < 0.01 * np.ptp(want)
