"""Chains of elementwise operations against eager PyTorch."""

import pytest
import torch
from drawing import new_generator, poison
from fastgan.kernels import pointwise
from fastgan.kernels.pointwise import Step
from fastgan.kernels.types import Config
from tolerances import assert_close

CHAIN = (Step("mul", tensor=0), Step("add", tensor=1), Step("relu"), Step("mul", 0.5))


def draw(device, layout=torch.channels_last):
    generator = new_generator(device)
    x, y = torch.randn(2, 2, 6, 5, 7, generator=generator, device=device)
    scale = torch.randn(6, generator=generator, device=device)
    return x.contiguous(memory_format=layout), y.contiguous(memory_format=layout), scale


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("config", [None, Config(1, 64, 1), Config(4, 16, 1)], ids=str)
def test_chain(layout, config, device):
    x, y, scale = draw(device, layout)
    prepared = pointwise.prepare(x, CHAIN, [scale, y], config=config)
    poison(prepared.out)
    expected = (x * scale[:, None, None] + y).relu() * 0.5
    assert prepared.out.stride() == x.stride()
    assert_close(prepared.run(), expected, torch.float32)


def test_in_place(device):
    x, y, scale = draw(device)
    expected = (x * scale[:, None, None] + y).relu() * 0.5
    assert pointwise.launch(x, CHAIN, [scale, y], out=x) is x
    assert_close(x, expected, torch.float32)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("operation", ["minimum", "maximum", "relu", "leaky_relu", "tanh", "abs"])
def test_nan_is_kept_and_flagged(operation, device):
    x = torch.tensor([1.0, float("nan"), -1.0], device=device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    out = pointwise.launch(x, [Step(operation, 0.5)], flag=flag)
    assert out.isnan().tolist() == [False, True, False]
    assert flag.item() == 1
    pointwise.launch(x[2:], [Step(operation, 0.5)], flag=flag.zero_())
    assert flag.item() == 0


def test_flag_looks_at_no_element_beyond_the_tensor(device):
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    x = torch.ones(3, device=device)
    pointwise.launch(x, [Step("log"), Step("exp"), Step("rdiv", 1.0)], flag=flag)
    assert flag.item() == 0


def test_refuses_what_it_cannot_do(device):
    x, y, scale = draw(device)
    with pytest.raises(ValueError, match="operation: found 'sin'"):
        Step("sin")
    with pytest.raises(ValueError, match="needed all used"):
        pointwise.launch(x, CHAIN, [scale])
    with pytest.raises(ValueError, match="tensors: found"):
        pointwise.launch(x, CHAIN, [scale, y.contiguous()])
    with pytest.raises(ValueError, match="x: found strides"):
        pointwise.launch(x[:, :, ::2], [Step("relu")])
