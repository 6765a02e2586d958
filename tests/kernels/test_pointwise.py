"""Chains of elementwise operations against eager PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import pointwise
from fastgan.kernels.pointwise import Step
from fastgan.kernels.types import Config
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

LOAD = Step("load", tensor=0)
CHAIN = (LOAD, Step("mul", tensor=1), Step("add", tensor=2), Step("relu"), Step("mul", 0.5))


def draw(device):
    generator = new_generator(device)
    x, y = torch.randn(2, 2, 6, 5, 7, generator=generator, device=device)
    scale = torch.randn(1, 6, 1, 1, generator=generator, device=device)
    last = torch.channels_last
    return x.contiguous(memory_format=last), scale, y.contiguous(memory_format=last)


def row(values, device):
    return torch.tensor(values, device=device).view(-1, 1, 1, 1)


@pytest.mark.parametrize("config", [None, Config(1, 64, 1), Config(4, 16, 1)], ids=str)
def test_chain(config, device):
    x, scale, y = draw(device)
    prepared = pointwise.prepare([x, scale, y], CHAIN, config=config)
    poison(prepared.out)
    assert prepared.out.stride() == x.stride()
    assert_close(prepared.run(), (x * scale + y).relu() * 0.5, torch.float32)


def test_any_strides(device):
    x, scale, y = draw(device)
    crossed = y.transpose(2, 3).contiguous().transpose(2, 3)
    out = pointwise.launch([x.contiguous(), scale, crossed], CHAIN)
    assert_close(out, (x * scale + y).relu() * 0.5, torch.float32)


def test_in_place(device):
    x, scale, y = draw(device)
    expected = (x * scale + y).relu() * 0.5
    assert pointwise.launch([x, scale, y], CHAIN, out=x) is x
    assert_close(x, expected, torch.float32)


def test_values_are_kept(device):
    x, _, y = draw(device)
    steps = (LOAD, Step("elu", 1.0, keep=3), Step("load", tensor=1), Step("sigmoid", keep=0))
    steps += (Step("mul", kept=3), Step("sub", kept=0))
    out = pointwise.launch([x, y], steps)
    assert_close(out, F.elu(x) * y.sigmoid() - y.sigmoid(), torch.float32)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("operation", ["minimum", "maximum", "relu", "leaky_relu", "tanh", "abs"])
def test_nan_is_kept_and_flagged(operation, device):
    x = row([1.0, float("nan"), -1.0], device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    out = pointwise.launch([x], [LOAD, Step(operation, 0.5)], flag=flag)
    assert out.isnan().flatten().tolist() == [False, True, False]
    assert flag.item() == 1
    pointwise.launch([x[2:]], [LOAD, Step(operation, 0.5)], flag=flag.zero_())
    assert flag.item() == 0


def test_flag_looks_at_no_element_beyond_the_tensor(device):
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    x = torch.ones(3, 1, 1, 1, device=device)
    pointwise.launch([x], [LOAD, Step("log"), Step("exp"), Step("rdiv", 1.0)], flag=flag)
    assert flag.item() == 0


def test_refuses_what_it_cannot_do(device):
    x, scale, y = draw(device)
    with pytest.raises(ValueError, match="operation: found 'sinh'"):
        Step("sinh")
    with pytest.raises(ValueError, match="keep: found 4"):
        Step("relu", keep=4)
    with pytest.raises(ValueError, match="all there"):
        pointwise.launch([x, scale], CHAIN)
    with pytest.raises(ValueError, match="tensors: found"):
        pointwise.launch([x, scale, y[:, :, :4]], CHAIN)
    with pytest.raises(ValueError, match="out: found"):
        pointwise.launch([x, scale, y], CHAIN, out=y[:, :, ::2])


def test_a_chain_is_one_kernel_whatever_the_size(device):
    def prepared(height, width):
        x = torch.zeros(1, 6, height, width, device=device)
        style, y = torch.zeros(1, 6, 1, 1, device=device), torch.zeros_like(x)
        last = torch.channels_last
        return pointwise.prepare(
            [x.contiguous(memory_format=last), style, y.permute(0, 1, 2, 3)], CHAIN
        )

    (one,), (other,) = prepared(5, 7).calls, prepared(9, 4).calls
    assert one.arguments["chain"] == other.arguments["chain"]
    assert one.arguments["size"] != other.arguments["size"]


def test_in_64_bits_as_in_32(device, monkeypatch):
    x, scale, y = draw(device)
    expected = pointwise.launch([x.contiguous(), scale, y], CHAIN)
    monkeypatch.setattr(pointwise, "MOST_NARROW", 0)
    prepared = pointwise.prepare([x.contiguous(), scale, y], CHAIN)
    assert prepared.calls[0].arguments["chain"].wide
    assert torch.equal(prepared.run(), expected)
