"""The transposed convolution against eager PyTorch, in any geometry and along every path."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import conv_transpose
from fastgan.kernels.conv_transpose.cases import Case
from fastgan.kernels.epilogue import Epilogue
from fastgan.kernels.modulation import Modulated
from fastgan.kernels.table import BY_NAME
from fastgan.kernels.types import Config
from tests.drawing import new_generator, new_random, poison
from tests.kernels.products import geometry
from tests.kernels.tolerances import assert_close

KERNEL = BY_NAME["conv_transpose"]

HALF = torch.float16


def eager(x, weight, bias, case: Case) -> torch.Tensor:
    """PyTorch's own, in float32; it takes one padding per axis, so the output is cropped here."""
    full = F.conv_transpose2d(
        x.float(), weight.float(), None, case.stride, output_padding=case.output_padding
    )
    top, left, bottom, right = case.padding
    full = full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]
    return full if bias is None else full + bias[:, None, None]


check = partial(geometry.check, KERNEL, conv_transpose.prepare, eager)


@pytest.mark.parametrize(
    "config", [*geometry.TILINGS[1::2], Config(64, 64, 32, descriptors=True)], ids=str
)
@pytest.mark.parametrize("c_out", [3, 40], ids=["phases in columns", "phases apart"])
def test_modulation_along_every_path(config, c_out, device):
    none, scales = (0, 0, 0, 0), Modulated(noise=True)
    case = Case(3, 24, 4, 4, c_out, (3, 3), padding=none, dtype=HALF, modulated=scales)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    prepared = conv_transpose.prepare(**inputs.launch, config=config)
    poison(prepared.out)
    given, drawn = inputs.reference, inputs.launch["modulation"]
    x = (given["x"].float() * drawn.scale_in[:, :, None, None]).to(HALF).float()
    own = given["weight"].float()[None] * drawn.scale_out[:, None, :, None, None]
    sums = F.conv_transpose2d(x.reshape(1, 72, 4, 4), own.flatten(0, 1), stride=2, groups=3)
    expected = sums.reshape(3, c_out, 9, 9) + drawn.noise[:, None] + given["bias"][:, None, None]
    assert_close(prepared.run(), expected.to(HALF), HALF)


@pytest.mark.parametrize("number", range(12))
def test_random_geometry(number, device):
    random = new_random()

    def pair(low, high):
        return (random.randint(low, high), random.randint(low, high))

    kernel, stride = pair(1, 6), pair(1, 4)
    padding = tuple(random.randint(0, (k - 1) // 2) for k in (*kernel, *kernel))
    case = Case(
        **geometry.sizes(random, 2, 6),
        kernel=kernel,
        stride=stride,
        padding=padding,
        output_padding=(random.randint(0, stride[0] - 1), random.randint(0, stride[1] - 1)),
        dtype=random.choice((torch.float32, torch.float16, torch.bfloat16)),
        phases_in_columns=random.choice((None, True, False)),
    )
    check(case, device)


@pytest.mark.parametrize("config", geometry.TILINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, HALF, torch.bfloat16], ids=str)
def test_every_path(config, dtype, device):
    check(Case(2, 24, 3, 5, 40, (4, 4), dtype=dtype), device, config)


@pytest.mark.parametrize("config", geometry.TILINGS, ids=str)
def test_every_path_of_unequal_phases(config, device):
    case = Case(3, 16, 3, 2, 20, (3, 5), (2, 3), (1, 2, 0, 1), (1, 1), HALF)
    check(case, device, config)
    check(replace(case, c_out=3, phases_in_columns=True), device, config)


@pytest.mark.parametrize("split_k", [1, 3])
@pytest.mark.parametrize("out_format", ["nhwc", "float32_nchw", "uint8_nhwc"])
def test_formats_do_not_depend_on_the_split(out_format, split_k, device):
    case = Case(1, 48, 3, 4, 3, epilogue=Epilogue("tanh", out_format=out_format))
    inputs = KERNEL.inputs(case, new_generator(device), device)
    config = Config(16, 16, 16, split_k=split_k)
    out = conv_transpose.launch(**inputs.launch, config=config)
    assert_close(out, KERNEL.reference(**inputs.reference), case.dtype)


def test_same_bits_every_time(device):
    case = Case(1, 64, 3, 4, 16, dtype=HALF)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    config = Config(16, 16, 16, split_k=4)
    first = conv_transpose.launch(**inputs.launch, config=config)
    assert torch.equal(first, conv_transpose.launch(**inputs.launch, config=config))


def test_writes_into_a_given_tensor(device):
    case = Case(2, 16, 4, 4, 8)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    out = torch.empty(2, 8, 8, 8, device=device, memory_format=torch.channels_last)
    assert conv_transpose.launch(**inputs.launch, out=poison(out)) is out
    assert_close(out, KERNEL.reference(**inputs.reference), case.dtype)


@pytest.mark.parametrize("split_k", [1, 2])
def test_residual(split_k, device):
    case = Case(1, 32, 3, 4, 20, epilogue=Epilogue("relu"), residual=True)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    config = Config(16, 16, 16, split_k=split_k)
    out = conv_transpose.launch(**inputs.launch, config=config)
    arguments = inputs.reference
    residual = arguments["residual"]
    plain = eager(arguments["x"], arguments["weight"], arguments["bias"], case)
    assert_close(out, (plain + residual).relu(), case.dtype)


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(2, 8, 8, 8),  # not channels last
        torch.empty(2, 8, 8, 7).contiguous(memory_format=torch.channels_last),
        torch.empty(2, 8, 8, 8, dtype=HALF).contiguous(memory_format=torch.channels_last),
    ],
)
def test_refuses_a_wrong_output(out, device):
    inputs = KERNEL.inputs(Case(2, 16, 4, 4, 8), new_generator(device), device)
    with pytest.raises(ValueError, match="out: found"):
        conv_transpose.launch(**inputs.launch, out=out.to(device))


def test_refuses_a_wrong_input(device):
    inputs = KERNEL.inputs(Case(2, 16, 4, 4, 8), new_generator(device), device).launch
    with pytest.raises(ValueError, match="x: found 15 channels"):
        conv_transpose.launch(**{**inputs, "x": inputs["x"][:, 1:]})
    with pytest.raises(ValueError, match="channels_last"):
        conv_transpose.launch(**{**inputs, "x": inputs["x"].contiguous()})
    with pytest.raises(ValueError, match="activation"):
        conv_transpose.launch(**{**inputs, "activation": "swish"})


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("split_k", [1, 2])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_flag_is_raised(value, split_k, activation, device):
    case = Case(2, 32, 3, 3, 17, epilogue=Epilogue(activation))
    inputs = KERNEL.inputs(case, new_generator(device), device).launch
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    config = Config(16, 16, 16, split_k=split_k)
    conv_transpose.launch(**inputs, flag=flag, config=config)
    assert flag.item() == 0
    inputs["x"][1, 5, 2, 1] = value
    conv_transpose.launch(**inputs, flag=flag, config=config)
    assert flag.item() == 1


@pytest.mark.filterwarnings("ignore:overflow")
def test_flag_sees_an_overflow_of_float16(device):
    case = Case(1, 32, 3, 3, 16, dtype=HALF)
    inputs = KERNEL.inputs(case, new_generator(device), device).launch
    inputs["bias"][3] = 1e5  # finite in the float32 sum
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    conv_transpose.launch(**inputs, flag=flag)
    assert flag.item() == 1


@pytest.mark.parametrize("number", range(6))
def test_convolution_of_an_upsampled_input(number, device):
    random, generator = new_random(), new_generator(device)
    kernel = (random.randint(1, 6), random.randint(1, 6))
    # The first is the usual one: k3 p1.
    kernel = (3, 3) if number == 0 else kernel
    padding = tuple(k // 2 if number == 0 else random.randint(0, k - 1) for k in (*kernel, *kernel))
    c_in, c_out = random.choice((5, 16)), random.choice((3, 20))
    x = torch.randn(2, c_in, 5, 4, generator=generator, device=device)
    weight = torch.randn(c_out, c_in, *kernel, generator=generator, device=device)
    weight /= (c_in * kernel[0] * kernel[1]) ** 0.5
    print(kernel, padding, c_in, c_out)
    packed = conv_transpose.pack_upsampled(weight, padding, torch.float32)
    out = conv_transpose.launch(x.contiguous(memory_format=torch.channels_last), packed)
    top, left, bottom, right = padding
    upsampled = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.conv2d(F.pad(upsampled, (left, right, top, bottom)), weight)
    assert_close(out, expected, torch.float32)
