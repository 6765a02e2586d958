"""Eight bits: what is stored, and products of it along every path, against float64."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import conv, to_image
from fastgan.kernels.conv import cases as conv_cases
from fastgan.kernels.conv_transpose import cases as conv_transpose_cases
from fastgan.kernels.e4m3 import E4M3, LARGEST, quantise, rounded
from fastgan.kernels.epilogue import Epilogue
from fastgan.kernels.modulation import Modulation
from fastgan.kernels.table import BY_NAME, KERNELS
from fastgan.kernels.types import Config
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9),
    reason="this GPU has no e4m3: needs compute capability 8.9",
)

CODES = Epilogue("leaky_relu", slope=0.2, out_format="e4m3_nhwc", high=5.0)
CONFIGS = (
    Config(32, 16, 32),
    Config(32, 32, 64, split_k=3),
    Config(16, 32, 32, descriptors=True),
    Config(64, 64, 64, descriptors=True),
    Config(16, 64, 32, descriptors=True, split_k=2),
)
SHAPES = (
    conv_cases.Case(2, 48, 5, 7, 40, dtype=E4M3, epilogue=CODES),
    conv_cases.Case(1, 64, 5, 4, 40, (3, 2), dtype=E4M3, residual=True),
    conv_transpose_cases.Case(2, 48, 4, 3, 40, dtype=E4M3, epilogue=CODES),
    conv_transpose_cases.Case(1, 64, 3, 4, 40, (3, 3), dtype=E4M3, residual=True),
)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("case", SHAPES, ids=lambda case: case.label)
def test_products_along_every_path(case, config, device):
    kernel = BY_NAME["conv" if isinstance(case, conv_cases.Case) else "conv_transpose"]
    inputs = kernel.inputs(case, new_generator(device), device)
    prepared = kernel.prepare(**inputs.launch, config=config)
    poison(prepared.out)
    expected = kernel.reference(**inputs.reference)
    assert_close(prepared.run(), expected, case.dtype, case)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_every_value_is_rounded_to_the_nearest(device):
    values = torch.arange(256, dtype=torch.uint8, device=device).view(E4M3).float()
    values = values[values.isfinite()].sort().values
    middles = (values[1:] + values[:-1]) / 2
    x = torch.cat([values, middles, middles * 0.999, middles * 1.001, values * 1e-3])
    high = 3.5  # a power of two: what is stored differs from the value by that factor alone
    x = torch.cat([x, values * 1.01, values * 99]) * (high / LARGEST)
    out = to_image.launch(x.view(-1, 1, 1, 1), out_format="e4m3_nhwc", high=high)
    expected = (x * (LARGEST / high)).clamp(-LARGEST, LARGEST).to(E4M3)
    assert torch.equal(out.float().flatten(), expected.float())


@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_reaches_the_end(device):
    """A layer that saturates must not hide an infinity: the guard looks at the last one alone."""
    x = torch.zeros(3, 16, 1, 1, device=device).contiguous(memory_format=torch.channels_last)
    x[0, 0], x[1, 0], x[2, 0] = float("nan"), float("inf"), 1e9
    stored = to_image.launch(x, out_format="e4m3_nhwc", high=7.0)
    assert stored.float().isnan()[:, 0].flatten().tolist() == [True, True, False]
    assert stored[2, 0].item() == LARGEST
    weight = torch.ones(16, 16, 1, 1, device=device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    out = conv.launch(stored, conv.pack(weight, E4M3), x_scale=7.0 / LARGEST, flag=flag)
    assert out.isnan().all(dim=1).flatten().tolist() == [True, True, False]
    assert (out[2] - 7.0).abs().max() <= 2e-3
    assert flag.item() == 1


@pytest.mark.parametrize("name", ["linear", "normalise", "pointwise"])
def test_whoever_writes_for_such_a_layer(name, device):
    (kernel,) = (kernel for kernel in KERNELS if kernel.name == name)
    written = {"out_format": "e4m3_nhwc", "high": 4.0}
    tried = 0
    for case in kernel.cases:
        if case.dtype != torch.float16 or getattr(case, "wide", 0):
            continue
        inputs = kernel.inputs(case, new_generator(device), device)
        prepared = kernel.prepare(**(inputs.launch | written))
        poison(prepared.out)
        plain = kernel.launch(**(inputs.launch | {"out_format": "nhwc"})).float()
        got = prepared.run()
        assert got.dtype == E4M3
        # Half a unit in the last of four bits, and the rounding of `plain` to 16 bits.
        bound = plain.abs().clamp(max=4.0) * (2**-4 + 2**-9) + 4.0 * 2**-17
        assert ((got.float() * (4.0 / LARGEST) - plain.clamp(-4.0, 4.0)).abs() <= bound).all()
        tried += 1
    assert tried


def test_quantised_weights_are_near(device):
    weight = torch.randn(6, 5, 3, 3, generator=new_generator(device), device=device)
    weight *= torch.logspace(-6, 6, 6, device=device)[:, None, None, None]
    weight[3] = 0
    near = rounded(weight, 0, E4M3)
    assert ((near - weight).abs() <= weight.abs() * 2**-4 + weight.abs().amax() * 1e-12).all()
    _, scale = quantise(weight, 0)
    assert scale.shape == (6,)
    assert scale[3] == 1
    assert torch.equal(rounded(near, 0, E4M3), near)


def test_close_to_eager(device):
    x = torch.randn(2, 64, 6, 6, generator=new_generator(device), device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(48, 64, 3, 3, generator=new_generator(device), device=device) / 24
    stored = to_image.launch(x, out_format="e4m3_nhwc", high=7.0)
    packed = conv.pack(weight, E4M3, padding=(1, 1, 1, 1))
    out = conv.launch(stored, packed, x_scale=7.0 / LARGEST)
    expected = F.conv2d(x, weight, padding=1)
    assert out.dtype == torch.float16
    assert (out.float() - expected).norm() <= 0.05 * expected.norm()


def test_refuses_scales_of_its_own(device):
    packed = conv.pack(torch.ones(8, 16, 1, 1, device=device), E4M3)
    x = torch.zeros(1, 16, 2, 2, device=device).contiguous(memory_format=torch.channels_last)
    own = Modulation(scale_out=torch.ones(1, 8, device=device))
    with pytest.raises(ValueError, match="modulation: found one"):
        conv.launch(x.to(E4M3), packed, modulation=own)
