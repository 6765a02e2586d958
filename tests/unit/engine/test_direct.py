"""The native chain of layers, held to PyTorch's own ops on random geometries."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.engine.base import Executable
from fastgan.engine.library import addressing
from fastgan.engine.native import chain as direct
from fastgan.engine.native.packing import Path
from fastgan.images.format import ImageFormat
from fastgan.images.pixels import to_uint8
from fastgan.plan import Buffer, Epilogue, Plan, Step

PATHS = [path for dtype in (torch.float32, torch.bfloat16) for path in direct.paths(dtype)]
pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(not PATHS, reason="no native code for this CPU"),
]


def plan_of(steps: list[Step], shapes: list[tuple[int, ...]], weights: dict[str, Tensor]) -> Plan:
    buffers = {f"x{i}": Buffer(f"x{i}", s, torch.float32) for i, s in enumerate(shapes)}
    return Plan(("x0",), (f"x{len(steps)}",), tuple(steps), buffers, weights)


def activation(epilogue: Epilogue, x: Tensor) -> Tensor:
    if epilogue.activation == "none":
        return x
    if epilogue.activation == "leaky_relu":
        return F.leaky_relu(x, epilogue.slope)
    return getattr(torch, epilogue.activation)(x)


def draw_axis(draw: random.Random, inputs: int, transposed: bool) -> tuple[int, ...]:
    """Kernel, stride, pad, dilation, output padding and outputs of one axis."""
    while True:
        kernel, stride, pad = draw.randint(1, 5), draw.randint(1, 3), draw.randint(0, 2)
        dilation = draw.choice([1, 1, 2])
        extra = draw.randint(0, max(stride, dilation) - 1)
        reach = dilation * (kernel - 1) + 1
        if transposed:
            outputs = (inputs - 1) * stride - 2 * pad + reach + extra
        else:
            outputs = (inputs + 2 * pad - reach) // stride + 1
        if 1 <= outputs <= max(24, inputs):
            return kernel, stride, pad, dilation, extra, outputs


class Chain:
    """A random chain: images, given or from a linear map, then convolutions of either kind."""

    def __init__(self, draw: random.Random, images: int, layers: int) -> None:
        self.steps: list[Step] = []
        self.weights: dict[str, Tensor] = {}
        rows = draw.randint(1, 70)
        channels = draw.choice([1, 3, 4, 17, 32, 40])
        size = (draw.randint(1, 5), draw.randint(1, 5))
        self.shapes: list[tuple[int, ...]] = [(images, channels, *size)]
        if layers == 0 or draw.random() < 0.7:
            self.shapes.insert(0, (images, rows))
            columns = channels * size[0] * size[1]
            shape = {"shape": [channels, *size]}
            self.add(draw, "Linear", torch.randn(rows, columns) / rows**0.5, shape, columns)
        for _ in range(layers):
            self.add_convolution(draw)

    def add(
        self, draw: random.Random, op: str, weight: Tensor, attributes: dict[str, object], bias: int
    ) -> None:
        index = len(self.steps)
        names = [f"x{index}", f"w{index}"]
        self.weights[f"w{index}"] = weight
        has_bias = draw.random() < 0.7
        if has_bias:
            names.append(f"b{index}")
            self.weights[f"b{index}"] = torch.randn(bias)
        name = draw.choice(["none", "relu", "leaky_relu", "tanh", "sigmoid"])
        epilogue = Epilogue(name, (0.3,) if name == "leaky_relu" else (), bias=has_bias)
        output = (f"x{index + 1}",)
        self.steps.append(Step(f"fastgan.{op}", tuple(names), output, attributes, epilogue))

    def add_convolution(self, draw: random.Random) -> None:
        images, c_in, *size = self.shapes[-1]
        c_out = draw.choice([1, 2, 3, 5, 16, 31, 32, 48, 65])
        transposed = draw.random() < 0.5
        enlarged = not transposed and draw.random() < 0.4
        shuffle = 2 if not transposed and draw.random() < 0.3 else 1
        axes = [draw_axis(draw, (1 + enlarged) * n, transposed) for n in size]
        kernel, strides, pads, dilations, extra, out = map(list, zip(*axes, strict=True))
        products = c_out * shuffle**2
        shape = (c_in, products) if transposed else (products, c_in)
        weight = torch.randn(*shape, *kernel) / (c_in * kernel[0] * kernel[1]) ** 0.5
        attributes: dict[str, object] = {
            "strides": strides,
            "pads": pads * 2,
            "dilations": dilations,
            "group": 1,
        }
        if transposed:
            attributes["output_padding"] = extra
        if enlarged:
            attributes["upsample"] = 1
        if shuffle > 1:
            attributes |= {"shuffle": shuffle, "shuffle_mode": draw.choice(["CRD", "DCR"])}
        self.shapes.append((images, c_out, *(shuffle * n for n in out)))
        self.add(draw, "ConvTranspose" if transposed else "Conv", weight, attributes, products)

    @property
    def plan(self) -> Plan:
        return plan_of(self.steps, self.shapes, self.weights)

    def expected(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The result, where products take numbers of this type."""
        for step in self.steps:
            x, weight = (t.to(dtype).double() for t in (x, self.weights[step.inputs[1]]))
            terms = self.weights[step.inputs[2]].double() if step.epilogue.bias else None
            a = step.attributes
            if step.op == "fastgan.Linear":
                x = F.linear(x, weight.t(), terms).reshape(-1, *a["shape"])
            else:
                options = (a["strides"], a["pads"][:2])
                if step.op == "fastgan.Conv":
                    x = addressing.reader(step)(x)
                    x = F.conv2d(x, weight, terms, *options, a["dilations"])
                    x = addressing.writer(step)(x)
                else:
                    extra, dilations = a["output_padding"], a["dilations"]
                    x = F.conv_transpose2d(x, weight, terms, *options, extra, 1, dilations)
            x = activation(step.epilogue, x)
        return x


IMAGE = ImageFormat("image", "float32", (-1.0, 1.0))


def other() -> Executable:
    raise AssertionError("nobody asked which step makes a NaN")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
@pytest.mark.parametrize("images", [1, 3, 4])
def test_random_chains_match_pytorch(path: Path, images: int, threads: int) -> None:
    seed = int(torch.randint(2**31, ()))
    draw = random.Random(seed)
    for case in range(12):
        chain = Chain(draw, images, layers=case % 4)
        plan = chain.plan
        assert direct.covers(plan, path.dtype)
        executable = direct.DirectExecutable(plan, path, other)
        for _ in range(2):  # the second run finds the buffers of the first
            x = torch.randn(chain.shapes[0])
            out = torch.full_like(executable({"x0": x})[plan.outputs[0]], torch.nan)
            result, nonfinite = executable.images({"x0": x}, IMAGE, out)
            assert result is out
            assert nonfinite is None
            error = (result - chain.expected(x, path.dtype)).abs()
            # In bf16 sums that differ in their last bit may be rounded apart before the next layer,
            # and taps that become one are rounded once.
            most, mean = (1e-5, 1e-6) if path.dtype == torch.float32 else (5e-2, 5e-3)
            assert error.max().item() <= most, (seed, case, chain.steps)
            assert error.mean().item() <= mean, (seed, case, chain.steps)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_bytes_are_the_rounded_floats(path: Path) -> None:
    for seed in range(8):
        chain = Chain(random.Random(seed), images=2, layers=2)
        executable = direct.DirectExecutable(chain.plan, path, other)
        x = 2 * torch.randn(chain.shapes[0])
        x[1] = torch.nan
        low, high = -0.7, 1.1
        floats, _ = executable.images({"x0": x}, IMAGE)
        images, _ = executable.images({"x0": x}, ImageFormat("image", "uint8", (low, high)))
        expected = to_uint8(floats, (low, high)).permute(0, 2, 3, 1)
        assert images.dtype == torch.uint8
        assert torch.equal(images.float(), expected), seed


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_nan_passes_and_bf16_says_so(path: Path) -> None:
    for seed in range(8):
        chain = Chain(random.Random(seed), images=2, layers=2)
        executable = direct.DirectExecutable(chain.plan, path, other)
        x = torch.randn(chain.shapes[0])
        x[1] = torch.nan
        expected = chain.expected(x).isfinite()
        images, nonfinite = executable.images({"x0": x}, IMAGE)
        finite = images.isfinite()
        # Within a patch a NaN may spread, by products with zero.
        assert finite[0].all(), seed
        assert not finite[~expected].any(), seed
        reported = path.dtype == torch.bfloat16 and not bool(finite.all())
        assert (nonfinite is not None and bool(nonfinite)) == reported, seed


def test_calls_from_several_threads_do_not_meet(threads: int) -> None:
    chain = Chain(random.Random(1), images=2, layers=3)
    executable = direct.DirectExecutable(chain.plan, PATHS[0], other)
    output = chain.plan.outputs[0]

    def run(seed: int) -> float:
        generator, worst = torch.Generator().manual_seed(seed), 0.0
        for _ in range(30):
            x = torch.randn(chain.shapes[0], generator=generator)
            result = executable({"x0": x})[output]
            worst = max(worst, (result - chain.expected(x)).abs().max().item())
        return worst

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(run, range(4))) <= 1e-5


FORK = """
import os, random, torch
from fastgan.engine.native import chain as direct
from tests.unit.engine.test_direct import PATHS, Chain, other
torch.set_num_threads(2)
chain = Chain(random.Random(2), images=3, layers=3)
executable = direct.DirectExecutable(chain.plan, PATHS[0], other)
x = torch.ones(chain.shapes[0])
expected = executable({"x0": x})
child = os.fork()
same = all(torch.equal(y, expected[name]) for name, y in executable({"x0": x}).items())
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own_and_both_exit() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)
