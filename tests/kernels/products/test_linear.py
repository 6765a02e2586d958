"""The linear layer against eager PyTorch."""

import pytest
import torch

from fastgan.kernels import linear
from fastgan.kernels.types import Config
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

CONFIGS = (None, Config(16, 16, 16), Config(16, 32, 16, split_k=3))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dense_then_reshape(dtype, config, device):
    generator = new_generator(device)
    x = torch.randn(3, 50, generator=generator, device=device).to(dtype)
    weight = (torch.randn(50, 6 * 12, generator=generator, device=device) / 50**0.5).to(dtype)
    bias = torch.randn(6 * 12, generator=generator, device=device)
    packed = linear.pack(weight, dtype, image=(6, 3, 4))
    out = torch.empty(3, 6, 3, 4, dtype=dtype, device=device, memory_format=torch.channels_last)
    linear.launch(x, packed, linear.pack_bias(bias, packed), out=poison(out), config=config)
    expected = (x.float() @ weight.float() + bias).view(3, 6, 3, 4)
    assert_close(out, expected.to(dtype), dtype)


@pytest.mark.parametrize("split_k", [1, 2])
def test_residual_and_flag(split_k, device):
    generator = new_generator(device)
    x = torch.randn(3, 40, generator=generator, device=device)
    weight = torch.randn(40, 24, generator=generator, device=device) / 40**0.5
    residual = torch.randn(3, 24, 1, 1, generator=generator, device=device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    packed = linear.pack(weight, torch.float32)
    options = {"residual": residual, "flag": flag, "config": Config(16, 16, 16, split_k=split_k)}
    out = linear.launch(x, packed, **options)
    assert_close(out.flatten(1), x @ weight + residual.flatten(1), torch.float32)
    assert flag.item() == 0
    x[1, 7] = float("nan")
    linear.launch(x, packed, **options)
    assert flag.item() == 1


def test_refuses_what_it_cannot_do(device):
    weight = torch.zeros(20, 12, device=device)
    with pytest.raises(ValueError, match="image"):
        linear.pack(weight, torch.float32, image=(5, 2, 1))
    packed = linear.pack(weight, torch.float32)
    with pytest.raises(ValueError, match="x: found 19 columns"):
        linear.launch(torch.zeros(2, 19, device=device), packed)
    with pytest.raises(ValueError, match="out_format"):
        linear.launch(torch.zeros(2, 20, device=device), packed, out_format="uint8_nhwc")
