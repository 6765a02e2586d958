"""Normalisation against eager PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import normalise
from fastgan.kernels.types import Config
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

# Several tiles per chunk, several chunks per image, several tiles of channels.
CONFIGS = (None, Config(4, 16, 1), Config(8, 64, 1))


def draw(device, *shape: int, dtype=torch.float32) -> tuple[torch.Tensor, ...]:
    generator = new_generator(device)
    x = torch.randn(*shape, generator=generator, device=device).to(dtype)
    gamma = torch.randn(shape[1], generator=generator, device=device)
    beta = torch.randn(shape[1], generator=generator, device=device)
    return x.contiguous(memory_format=torch.channels_last), gamma, beta


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_instance_norm(dtype, config, device):
    x, gamma, beta = draw(device, 2, 20, 9, 11, dtype=dtype)
    prepared = normalise.prepare(x, gamma, beta, activation="relu", config=config)
    poison(prepared.out)
    expected = F.instance_norm(x.float(), weight=gamma, bias=beta).relu()
    assert_close(prepared.run(), expected.to(dtype), dtype)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 5, 10])
def test_group_norm(groups, config, device):
    x, gamma, beta = draw(device, 2, 20, 7, 6)
    prepared = normalise.prepare(x, gamma, beta, groups=groups, config=config)
    poison(prepared.out)
    assert_close(prepared.run(), F.group_norm(x, groups, gamma, beta), torch.float32)


def test_adaptive_instance_norm(device):
    x, _, _ = draw(device, 3, 12, 6, 5)
    generator = new_generator(device)
    gamma, beta = torch.randn(2, 3, 12, generator=generator, device=device)
    out = normalise.launch(x, gamma, beta, activation="leaky_relu", slope=0.2)
    expected = F.instance_norm(x) * gamma[:, :, None, None] + beta[:, :, None, None]
    assert_close(out, F.leaky_relu(expected, 0.2), torch.float32)


def test_parameters_may_be_rows_of_a_longer_one(device):
    x, gamma, _ = draw(device, 3, 12, 6, 5)
    wide = torch.randn(3, 24, generator=new_generator(device), device=device)
    slopes = gamma.abs()
    out = normalise.launch(x, gamma, wide[:, 12:], activation="prelu", slopes=slopes)
    expected = F.instance_norm(x, weight=gamma) + wide[:, 12:, None, None]
    assert_close(out, F.prelu(expected, slopes), torch.float32)


def test_layer_norm_of_tokens(device):
    x, gamma, beta = draw(device, 2, 33, 5, 3)
    out = normalise.launch(x, gamma, beta, per_pixel=True)
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (33,), gamma, beta).permute(0, 3, 1, 2)
    assert_close(out, expected, torch.float32)


def test_pixel_norm(device):
    x, _, _ = draw(device, 2, 48, 1, 1)
    out = normalise.launch(x, per_pixel=True, subtract_mean=False, epsilon=1e-8)
    assert_close(out, x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt(), torch.float32)


def test_constant_input_is_its_shift(device):
    x = torch.full((1, 8, 4, 4), 3.0, device=device).contiguous(memory_format=torch.channels_last)
    beta = torch.arange(8.0, device=device)
    out = normalise.launch(x, None, beta)
    assert_close(out, beta[None, :, None, None].expand(1, 8, 4, 4), torch.float32)


@pytest.mark.parametrize("ratio", [10, 100, 1000])
@pytest.mark.parametrize("groups", [0, 5, 1])
def test_far_from_zero_no_digits_are_lost(groups, ratio, device):
    """Means so many times the deviation: of chunks, of their merger and of the groups."""
    x, gamma, beta = draw(device, 2, 20, 9, 11)
    x = x + ratio
    out = normalise.launch(x, gamma, beta, groups=groups, config=Config(4, 16, 1))
    expected = F.group_norm(x.double(), groups or 20, gamma.double(), beta.double())
    # A mean in float32 is a unit in its last place off, times gamma.
    assert (out - expected).abs().max() < 4e-6 + 5e-7 * ratio


@pytest.mark.parametrize("ratio", [10, 100, 1000])
def test_tokens_far_from_zero(ratio, device):
    x, gamma, beta = draw(device, 2, 33, 5, 3)
    x = x + ratio
    out = normalise.launch(x, gamma, beta, per_pixel=True)
    tokens = x.double().permute(0, 2, 3, 1)
    expected = F.layer_norm(tokens, (33,), gamma.double(), beta.double()).permute(0, 3, 1, 2)
    assert (out - expected).abs().max() < 4e-6 + 5e-7 * ratio


def test_refuses_what_it_cannot_do(device):
    x, gamma, _ = draw(device, 2, 20, 3, 3)
    with pytest.raises(ValueError, match="groups: found 3"):
        normalise.launch(x, gamma, groups=3)
    with pytest.raises(ValueError, match="per_pixel"):
        normalise.launch(x, gamma, per_pixel=True, groups=2)
    with pytest.raises(ValueError, match="gamma: found"):
        normalise.launch(x, gamma.repeat(3, 1))
    with pytest.raises(ValueError, match="beta: found"):
        normalise.launch(x, gamma, gamma.repeat(2, 2)[:, ::2])
