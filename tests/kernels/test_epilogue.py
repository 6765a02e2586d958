"""What every kernel does last: activations, and where the result is written."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import conv, conv_transpose, linear, normalise, to_image
from fastgan.kernels.epilogue import ACTIVATIONS
from fastgan.kernels.types import Config
from tests.drawing import new_generator
from tests.kernels.tolerances import assert_close

EAGER = {
    "none": lambda x: x,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.3),
    "prelu": None,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "hard_swish": F.hardswish,
    "softplus": F.softplus,
    "elu": lambda x: F.elu(x, 0.3),
}


def test_no_activation_is_left_out():
    assert set(EAGER) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", [name for name in EAGER if name != "prelu"])
def test_activation(name, device):
    x = torch.randn(2, 5, 4, 3, generator=new_generator(device), device=device) * 4
    x[0, 0, 0] = torch.tensor([-90.0, 90.0, 0.0])
    out = to_image.launch(x, activation=name, slope=0.3, out_format="nhwc")
    assert_close(out, EAGER[name](x), torch.float32)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", [name for name in EAGER if name != "prelu"])
def test_nan_stays_and_is_flagged(name, device):
    x = torch.tensor([1.0, float("nan"), -1.0], device=device).view(1, 3, 1, 1)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    out = to_image.launch(x, activation=name, slope=0.3, flag=flag)
    assert out.isnan().flatten().tolist() == [False, True, False]
    assert flag.item() == 1


def image(device, *shape: int) -> torch.Tensor:
    x = torch.randn(*shape, generator=new_generator(device), device=device)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("split_k", [1, 2])
@pytest.mark.parametrize("kernel", ["conv", "conv_transpose", "linear"])
def test_slopes_per_channel(kernel, split_k, device):
    slopes = torch.randn(6, generator=new_generator(device), device=device)
    x = image(device, 2, 40, 1, 1) if kernel == "linear" else image(device, 2, 40, 3, 4)
    weight = torch.randn(6, 40, 2, 2, generator=new_generator(device), device=device) / 12
    config = Config(16, 16, 16, split_k=split_k)
    options = {"activation": "prelu", "config": config}
    if kernel == "conv":
        packed = conv.pack(weight, torch.float32)
        out = conv.launch(x, packed, slopes=slopes, **options)
        plain = F.conv2d(x, weight)
    elif kernel == "conv_transpose":
        weight = weight.transpose(0, 1)
        packed = conv_transpose.pack(weight, (2, 2), (0, 0, 0, 0), torch.float32)
        out = conv_transpose.launch(x, packed, slopes=slopes, **options)
        plain = F.conv_transpose2d(x, weight, stride=2)
    else:
        weight = weight.transpose(0, 1).reshape(40, 24)
        packed = linear.pack(weight, torch.float32, image=(6, 2, 2))
        columns = linear.pack_bias(slopes, packed)
        out = linear.launch(x, packed, slopes=columns, **options)
        plain = (x.flatten(1) @ weight).view(2, 6, 2, 2)
    assert_close(out, F.prelu(plain, slopes), torch.float32)


@pytest.mark.parametrize("config", [None, Config(16, 64, 16, descriptors=True)], ids=str)
@pytest.mark.parametrize("kernel", ["conv", "conv_transpose"])
def test_neighbours_are_left_alone(kernel, config, device):
    wide = image(device, 2, 48, 4, 5)
    x = wide[:, 8:32]
    weight = torch.randn(16, 24, 3, 3, generator=new_generator(device), device=device) / 12
    x, weight = x.half(), weight.half()
    x = torch.cat([wide[:, :8].half(), x, wide[:, 32:].half()], 1)
    x = x.contiguous(memory_format=torch.channels_last)[:, 8:32]
    if kernel == "conv":
        packed = conv.pack(weight, torch.float16, padding=(1, 1, 1, 1))
        expected = F.conv2d(x.float(), weight.float(), padding=1)
        launch = conv.launch
    else:
        packed = conv_transpose.pack(weight.transpose(0, 1), (1, 1), (1, 1, 1, 1), torch.float16)
        expected = F.conv_transpose2d(x.float(), weight.transpose(0, 1).float(), padding=1)
        launch = conv_transpose.launch
    out = image(device, 2, 40, 4, 5).half()
    out = out.contiguous(memory_format=torch.channels_last)
    before = out.clone()
    launch(x, packed, out=out[:, 16:32], config=config)
    assert_close(out[:, 16:32], expected.half(), torch.float16)
    assert torch.equal(out[:, :16], before[:, :16])
    assert torch.equal(out[:, 32:], before[:, 32:])


def test_normalise_leaves_neighbours_alone(device):
    wide, out = image(device, 2, 12, 4, 5), image(device, 2, 14, 4, 5)
    before = out.clone()
    normalise.launch(wide[:, 3:9], out=out[:, 2:8], activation="silu")
    expected = F.silu(F.instance_norm(wide[:, 3:9]))
    assert_close(out[:, 2:8], expected, torch.float32)
    assert torch.equal(out[:, :2], before[:, :2])
    assert torch.equal(out[:, 8:], before[:, 8:])


def test_refuses_what_it_cannot_do(device):
    x = image(device, 1, 4, 3, 3)
    with pytest.raises(ValueError, match="slopes: found None"):
        to_image.launch(x, activation="prelu", out_format="nhwc")
    with pytest.raises(ValueError, match="activation: found 'sin'"):
        to_image.launch(x, activation="sin", out_format="nhwc")
    with pytest.raises(ValueError, match="out: found"):
        to_image.launch(x, out=torch.empty(1, 4, 3, 3, device=device), out_format="nhwc")
