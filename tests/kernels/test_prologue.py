"""A norm applied between a convolution's load and its product, against eager PyTorch."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import conv, normalise, prologue_cost
from fastgan.kernels.conv.cases import Case
from fastgan.kernels.e4m3 import E4M3
from fastgan.kernels.merge import Norm
from fastgan.kernels.prologue import Normalised
from fastgan.kernels.table import BY_NAME
from fastgan.kernels.types import Config
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

KERNEL = BY_NAME["conv"]

HALF, BRAIN = torch.float16, torch.bfloat16
# Runs and boxes of pixels, the input as either factor, whole and split reductions, channels that
# are no multiple of a block: what lies beyond them is no zero after a sigmoid.
CONFIGS = (
    Config(16, 32, 32),
    Config(32, 64, 8, persistent=1),
    Config(32, 16, 32, split_k=3),
    Config(16, 32, 32, descriptors=True),
    Config(16, 64, 32, descriptors=True),
    Config(64, 64, 32, descriptors=True, persistent=1),
    Config(16, 64, 16, descriptors=True, split_k=2),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.label)
@pytest.mark.parametrize("size", [4, 5], ids=["tiles of one image", "tiles of several"])
def test_padding_stays_zero_along_every_path(config, size, device):
    case = Case(3, 24, size, 8, 40, dtype=HALF, normalised="image", norm_activation="sigmoid")
    inputs = KERNEL.inputs(case, new_generator(device), device)
    given, norm = inputs.reference, inputs.reference["normalised"]
    prepared = conv.prepare(**inputs.launch, config=config)
    poison(prepared.out)
    x = (given["x"].float() - norm.norm.centre[:, :, None, None]) * norm.norm.scale[
        :, :, None, None
    ]
    x = torch.sigmoid(x + norm.shift[:, :, None, None]).to(HALF).float()
    expected = F.conv2d(x, given["weight"].float(), given["bias"], padding=1)
    assert_close(prepared.run(), expected.to(HALF), HALF)


@pytest.mark.parametrize(
    ("case", "config"),
    [
        (Case(2, 16, 8, 8, 24, dtype=HALF, pad_mode="reflect"), Config(16, 32, 16)),
        (Case(2, 16, 4, 4, 24, pad_mode="edge", upsample=True), Config(16, 32, 16)),
        (Case(1, 16, 5, 7, 24, (4, 4), (2, 2), dtype=BRAIN, wide=8), None),
        (Case(1, 32, 5, 7, 70, (1, 1), padding=(0, 0, 0, 0), dtype=BRAIN), CONFIGS[4]),
    ],
)
@pytest.mark.parametrize("groups", [0, 4])
def test_is_the_same_as_a_pass_before(case, config, groups, device):
    case = replace(case, statistics=config is not None)
    inputs = KERNEL.inputs(case, new_generator(device), device)
    x, c = inputs.launch["x"], case.c_in
    gamma, beta = torch.randn(2, c, generator=new_generator(device), device=device)
    how = {"groups": groups, "activation": "silu"}
    norm, calls = normalise.prepare_unapplied(x, gamma, beta, **how)
    for call in calls:
        call.run()
    prepared = conv.prepare(**{**inputs.launch, "normalised": norm}, config=config)
    poison(prepared.out)
    out = prepared.run().clone()
    before = normalise.launch(x, gamma, beta, **how)
    expected = conv.prepare(**{**inputs.launch, "x": before}, config=config)
    poison(expected.out)
    assert_close(out, expected.run(), case.dtype)
    if config is not None:
        made, measured = prepared.statistics, expected.statistics
        assert_close(made.means, measured.means, torch.float32)


def test_refuses_what_it_cannot_do(device):
    inputs = KERNEL.inputs(Case(2, 16, 4, 4, 8), new_generator(device), device).launch
    norm = Norm(*torch.ones(2, 3, 16, device=device))
    with pytest.raises(ValueError, match="normalised: found a norm of"):
        conv.prepare(**{**inputs, "normalised": Normalised(norm)})
    eight = KERNEL.inputs(Case(2, 16, 4, 4, 8, dtype=E4M3), new_generator(device), device).launch
    with pytest.raises(ValueError, match="normalised: found one of an e4m3 input"):
        conv.prepare(**{**eight, "normalised": Normalised(Norm(*torch.ones(2, 2, 16)))})
    with pytest.raises(ValueError, match="normalised: found activation prelu"):
        Normalised(norm, activation="prelu")


def test_the_rule():
    image = 64 * 64
    assert prologue_cost.pays(1, 2, image, image)  # 1x1
    assert prologue_cost.pays(9, 1, image, 4 * image)  # 3x3 of stride 2
    assert not prologue_cost.pays(9, 2, image, image)  # a residual block's
    assert not prologue_cost.pays(49, 1, image, image)  # 7x7, to an image
