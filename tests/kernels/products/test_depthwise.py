"""Depthwise convolutions against eager PyTorch, in any geometry and with strips of any height."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import depthwise
from fastgan.kernels.depthwise.cases import Case
from fastgan.kernels.epilogue import Epilogue
from fastgan.kernels.modulation import Modulated
from fastgan.kernels.table import BY_NAME
from fastgan.kernels.types import Config
from tests.drawing import new_generator, new_random
from tests.kernels.products import geometry
from tests.kernels.tolerances import assert_close

KERNEL = BY_NAME["depthwise"]

HALF = torch.float16
CONFIGS = (None, Config(16, 32, 1), Config(8, 16, 3), Config(32, 16, 4))
MODES = {"zeros": "constant", "reflect": "reflect", "edge": "replicate"}


def eager(x, weight, bias, case: Case) -> torch.Tensor:
    """PyTorch's own, in float32."""
    x, weight, channels = x.float(), weight.float(), case.channels
    top, left, bottom, right = case.padding
    if case.transposed:
        full = F.conv_transpose2d(x, weight, None, case.stride, groups=channels)
        extra = case.output_padding
        full = F.pad(full, (-left, extra[1] - right, -top, extra[0] - bottom))
        return full if bias is None else full + bias[:, None, None]
    if case.upsample:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
    x = F.pad(x, (left, right, top, bottom), MODES[case.pad_mode])
    return F.conv2d(x, weight, bias, case.stride, 0, case.dilation, channels)


check = partial(geometry.check, KERNEL, depthwise.prepare, eager)


@pytest.mark.parametrize("number", range(8))
def test_random_geometry(number, device):
    random = new_random()
    transposed = random.random() < 0.5
    kernel = (random.randint(1, 5), random.randint(1, 5))
    stride = (random.randint(1, 3), random.randint(1, 3))
    case = Case(
        batch=random.randint(1, 3),
        channels=random.choice((1, 3, 8, 17, 32)),
        height=random.randint(9, 12),
        width=random.randint(9, 12),
        kernel=kernel,
        stride=stride,
        padding=tuple(random.randint(0, k // 2) for k in (*kernel, *kernel)),
        dilation=(1, 1) if transposed else (random.randint(1, 2), random.randint(1, 2)),
        pad_mode="zeros" if transposed else random.choice(tuple(MODES)),
        upsample=not transposed and random.random() < 0.3,
        transposed=transposed,
        output_padding=tuple(random.randrange(s) for s in stride) if transposed else (0, 0),
        shared=random.random() < 0.3,
        dtype=random.choice((torch.float32, HALF, torch.bfloat16)),
    )
    check(case, device, random.choice(CONFIGS))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_strips_of_any_height(transposed, config, device):
    check(Case(1, 20, 5, 7, (4, 4), (2, 2), transposed=transposed, dtype=HALF), device, config)


def test_a_filter_of_all_channels_is_kept_once(device):
    weight = torch.randn(1, 1, 4, 4, device=device).repeat(12, 1, 1, 1)
    assert depthwise.pack(weight).data.shape == (1, 4, 4, 1)
    assert depthwise.pack_transposed(weight, (2, 2), (1, 1, 1, 1)).data.shape == (4, 2, 2, 1)
    weight[3, 0, 1, 2] += 1
    assert depthwise.pack(weight).data.shape == (1, 4, 4, 12)


def test_modulation_is_that_of_a_scaled_input(device):
    modulated = Modulated(noise=True)
    case = Case(3, 12, 5, 6, modulated=modulated, epilogue=Epilogue("leaky_relu", 0.2))
    inputs = KERNEL.inputs(case, new_generator(device), device)
    given, scales = inputs.reference, inputs.launch["modulation"]
    x = given["x"] * scales.scale_in[:, :, None, None]
    sums = F.conv2d(x, given["weight"], padding=1, groups=12) * scales.scale_out[:, :, None, None]
    expected = sums + scales.noise[:, None] + given["bias"][:, None, None]
    out = depthwise.launch(**inputs.launch)
    assert_close(out, F.leaky_relu(expected, 0.2), torch.float32)


def test_an_infinite_input_raises_the_flag(device):
    case = Case(1, 8, 4, 5, dtype=HALF)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    depthwise.launch(**inputs.launch, flag=flag)
    assert not flag.item()
    inputs.launch["x"][0, 3, 1, 2] = torch.inf
    depthwise.launch(**inputs.launch, flag=flag)
    assert flag.item()


def test_refuses_what_it_cannot_do(device):
    weight = torch.randn(8, 1, 3, 3, device=device)
    x = torch.randn(1, 4, 5, 5, device=device).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="x: found 4 channels, needed 8"):
        depthwise.launch(x, depthwise.pack(weight))
    with pytest.raises(ValueError, match="weight: found"):
        depthwise.pack(weight.view(4, 2, 3, 3))
    with pytest.raises(ValueError, match="padding: found"):
        depthwise.pack_transposed(weight, (2, 2), (0, -1, 0, 0))
    reflected = depthwise.pack(weight[:4], padding=(5, 1, 1, 1), pad_mode="reflect")
    with pytest.raises(ValueError, match="needed more than the padding reflects"):
        depthwise.launch(x, reflected)
