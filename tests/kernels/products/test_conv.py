"""The convolution against eager PyTorch, in any geometry and along every path."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import conv
from fastgan.kernels.conv.cases import Case
from fastgan.kernels.epilogue import Epilogue
from fastgan.kernels.modulation import Modulated, Modulation
from fastgan.kernels.table import BY_NAME
from fastgan.kernels.types import Config
from tests.drawing import new_generator, new_random, poison
from tests.kernels.products import geometry
from tests.kernels.tolerances import assert_close

KERNEL = BY_NAME["conv"]

HALF = torch.float16
LEAKY = Epilogue("leaky_relu", slope=0.2)
MODES = {"zeros": "constant", "reflect": "reflect", "edge": "replicate"}


def eager(x, weight, bias, case: Case) -> torch.Tensor:
    """PyTorch's own, in float32: upsample, pad, convolve."""
    x = x.float()
    if case.upsample:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    top, left, bottom, right = case.padding
    x = F.pad(x, (left, right, top, bottom), MODES[case.pad_mode])
    return F.conv2d(x, weight.float(), bias, case.stride, 0, case.dilation)


@pytest.mark.parametrize("config", [None, Config(16, 16, 16), Config(16, 64, 16, descriptors=True)])
def test_pixel_shuffle(config, device):
    case = Case(2, 16, 4, 5, 32, shuffle=2, dtype=HALF)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    prepared = conv.prepare(**inputs.launch, config=config)
    poison(prepared.out)
    arguments = inputs.reference
    expected = eager(arguments["x"], arguments["weight"], arguments["bias"], case)
    assert_close(prepared.run(), F.pixel_shuffle(expected, 2).to(HALF), HALF)


check = partial(geometry.check, KERNEL, conv.prepare, eager)


@pytest.mark.parametrize("number", range(12))
def test_random_geometry(number, device):
    random = new_random()
    pad_mode = random.choice(("zeros", "reflect", "edge"))
    kernel = (random.randint(1, 5), random.randint(1, 5))
    padding = tuple(random.randint(0, k // 2) for k in (*kernel, *kernel))
    case = Case(
        **geometry.sizes(random, 9, 12),
        kernel=kernel,
        stride=(random.randint(1, 3), random.randint(1, 3)),
        padding=padding,
        dilation=(random.randint(1, 2), random.randint(1, 2)),
        pad_mode=pad_mode,
        upsample=random.random() < 0.3,
        dtype=random.choice((torch.float32, torch.float16, torch.bfloat16)),
    )
    check(case, device)


@pytest.mark.parametrize("config", geometry.TILINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, HALF, torch.bfloat16], ids=str)
def test_every_path(config, dtype, device):
    check(Case(2, 24, 5, 7, 40, dtype=dtype), device, config)


@pytest.mark.parametrize(
    "config", [*geometry.TILINGS, Config(64, 64, 32, descriptors=True)], ids=str
)
@pytest.mark.parametrize("size", [4, 5], ids=["tiles of one image", "tiles of several"])
def test_modulation_along_every_path(config, size, device):
    case = Case(3, 24, size, 8, 40, dtype=HALF, modulated=Modulated(noise=True), epilogue=LEAKY)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    prepared = conv.prepare(**inputs.launch, config=config)
    poison(prepared.out)
    given, scales = inputs.reference, inputs.launch["modulation"]
    x = (given["x"].float() * scales.scale_in[:, :, None, None]).to(HALF).float()
    own = given["weight"].float()[None] * scales.scale_out[:, :, None, None, None]
    sums = F.conv2d(x.reshape(1, 72, size, 8), own.flatten(0, 1), padding=1, groups=3)
    expected = sums.reshape(3, 40, size, 8) + scales.noise[:, None] + given["bias"][:, None, None]
    assert_close(prepared.run(), F.leaky_relu(expected, 0.2).to(HALF), HALF)


@pytest.mark.parametrize("config", geometry.TILINGS[:3], ids=str)
def test_padding_and_upsampling_along_every_path(config, device):
    case = Case(2, 32, 3, 4, 20, pad_mode="reflect", upsample=True, dtype=HALF)
    check(case, device, config)
    check(replace(case, pad_mode="edge", stride=(2, 2), upsample=False), device, config)


@pytest.mark.parametrize("config", geometry.TILINGS, ids=str)
def test_dilation_along_every_path(config, device):
    check(Case(1, 16, 6, 5, 20, dilation=(2, 1), dtype=HALF), device, config)


@pytest.mark.parametrize("residual_last", [False, True])
@pytest.mark.parametrize("split_k", [1, 3])
def test_residual_before_and_after_the_activation(residual_last, split_k, device):
    epilogue = Epilogue("relu", residual_last=residual_last)
    case = Case(1, 32, 4, 5, 20, epilogue=epilogue, residual=True)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    config = Config(16, 16, 16, split_k=split_k)
    out = conv.launch(**inputs.launch, config=config)
    plain = eager(inputs.reference["x"], inputs.reference["weight"], inputs.reference["bias"], case)
    residual = inputs.reference["residual"]
    expected = plain.relu() + residual if residual_last else (plain + residual).relu()
    assert_close(out, expected, case.dtype)


def test_residual_may_be_the_output(device):
    case = Case(2, 16, 5, 4, 16, residual=True)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    expected = KERNEL.reference(**inputs.reference)
    residual = inputs.launch["residual"]
    assert conv.launch(**inputs.launch, out=residual) is residual
    assert_close(residual, expected, case.dtype)


def test_refuses_what_it_cannot_do(device):
    inputs = KERNEL.inputs(Case(2, 16, 4, 4, 8), new_generator(device), device).launch
    with pytest.raises(ValueError, match="channels_last"):
        conv.launch(**{**inputs, "x": inputs["x"].contiguous()})
    with pytest.raises(ValueError, match="residual: found"):
        conv.launch(**{**inputs, "residual": inputs["x"]})
    of_three = Modulation(scale_in=torch.ones(3, 16, device=device))
    with pytest.raises(ValueError, match="scale_in: found"):
        conv.launch(**{**inputs, "modulation": of_three})
    with pytest.raises(ValueError, match="pad_mode"):
        conv.pack(torch.zeros(1, 1, 3, 3, device=device), HALF, pad_mode="wrap")
    with pytest.raises(ValueError, match="shuffle: found 6"):
        conv.pack(torch.zeros(6, 1, 3, 3, device=device), HALF, shuffle=2)
    far = Case(1, 4, 3, 9, 8, (7, 7), padding=(3, 3, 3, 3), pad_mode="reflect")
    with pytest.raises(ValueError, match="more than the padding reflects"):
        conv.launch(**KERNEL.inputs(far, new_generator(device), device).launch)
