"""Image formats, exactly: levels, ties, values out of range, NaN."""

import numpy as np
import pytest
import torch

from fastgan.kernels import to_image
from tests.drawing import new_generator, poison


def levels(x: torch.Tensor, low: float, high: float) -> np.ndarray:
    """The definition in NumPy, in float32 as the kernel computes it."""
    x = x.float().cpu().numpy()
    with np.errstate(invalid="ignore"):
        unit = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
        level = np.rint(unit * np.float32(255))  # rint rounds ties to even
    return np.nan_to_num(level, nan=0).astype(np.uint8).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-2.5, 3.0), (0.0, 255.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_levels_are_exact(dtype, low, high, device):
    x = torch.randn(2, 3, 17, 9, generator=new_generator(device), device=device)
    x = (x * (high - low) + low).to(dtype)
    out = torch.empty(2, 17, 9, 3, dtype=torch.uint8, device=device)
    to_image.launch(x, out=poison(out), out_format="uint8_nhwc", low=low, high=high)
    assert np.array_equal(out.cpu().numpy(), levels(x, low, high))


def test_ties_go_to_even(device):
    ties = torch.arange(255, device=device) + 0.5
    out = to_image.launch(ties.view(1, 1, 1, -1), out_format="uint8_nhwc", low=0.0, high=255.0)
    assert out.flatten().tolist() == [round(tie) for tie in ties.tolist()]


def test_nan_and_infinity(device):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0], device=device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    out = to_image.launch(x.view(1, 1, 2, 2), out_format="uint8_nhwc", flag=flag)
    assert out.flatten().tolist() == [0, 255, 0, 128]
    assert flag.item() == 1
    to_image.launch(x[3:].view(1, 1, 1, 1), out_format="uint8_nhwc", flag=flag.zero_())
    assert flag.item() == 0


@pytest.mark.parametrize("channels_last", [True, False])
def test_float32_nchw_is_a_copy(channels_last, device):
    x = torch.randn(2, 5, 3, 4, generator=new_generator(device), device=device)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    out = to_image.launch(x)
    assert out.is_contiguous()
    assert torch.equal(out, x)
