"""Statistics in a convolution's epilogue: of what it stored, whatever the tiles."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fastgan.kernels import merge, normalise
from fastgan.kernels.conv import cases as conv_cases
from fastgan.kernels.conv_transpose import cases as conv_transpose_cases
from fastgan.kernels.epilogue import Epilogue
from fastgan.kernels.modulation import Modulated
from fastgan.kernels.statistics import Statistics
from fastgan.kernels.table import BY_NAME
from fastgan.kernels.types import Config, Prepared
from tests.drawing import new_generator, poison
from tests.kernels.tolerances import assert_close

HALF, BRAIN = torch.float16, torch.bfloat16
RELU = Epilogue("relu", residual_last=True)
RUNS, NARROW = Config(16, 64, 32), Config(16, 16, 16, persistent=1)
BOXES = Config(32, 16, 32, descriptors=True)
SWAPPED = Config(16, 64, 32, descriptors=True, persistent=1)
CASES = (
    # Several tiles of an image, one, a tile larger than it, edges of boxes.
    (conv_cases.Case(2, 16, 8, 8, 24, residual=True, epilogue=RELU), (RUNS, NARROW, BOXES)),
    (conv_cases.Case(3, 16, 4, 4, 24, dtype=HALF, pad_mode="reflect"), (NARROW,)),
    (conv_cases.Case(1, 16, 5, 7, 24, dtype=HALF, wide=8), (None, NARROW, BOXES, SWAPPED)),
    (conv_cases.Case(1, 32, 5, 9, 70, dtype=BRAIN), (SWAPPED,)),
    (conv_cases.Case(2, 32, 4, 8, 40, modulated=Modulated(noise=True)), (SWAPPED,)),
    # Phases of equal and of unequal sizes, and in columns; a phase of no pixels.
    (conv_transpose_cases.Case(2, 16, 4, 8, 24, dtype=HALF), (NARROW, BOXES, SWAPPED)),
    (conv_transpose_cases.Case(1, 16, 5, 3, 40, (3, 3), dtype=BRAIN), (None, NARROW, SWAPPED)),
    (conv_transpose_cases.Case(1, 16, 3, 5, 5, (3, 3)), (BOXES,)),
    (conv_transpose_cases.Case(1, 16, 1, 4, 20, (1, 4), padding=(0, 1, 0, 1)), (NARROW,)),
)
PARAMETERS = [
    pytest.param(case, config, id=f"{number}-{config.label if config else 'default'}")
    for number, (case, configs) in enumerate(CASES)
    for config in configs
]


def run(case, config: Config | None, device: torch.device) -> Prepared:
    """A case with the statistics of its result, in poisoned memory."""
    case = replace(case, statistics=True)
    kernel = BY_NAME["conv" if isinstance(case, conv_cases.Case) else "conv_transpose"]
    inputs = kernel.inputs(case, new_generator(device), device)
    poison(inputs.launch["statistics"])
    prepared = kernel.prepare(**inputs.launch, config=config)
    poison(prepared.out)
    out = prepared.run()
    assert_close(out, kernel.reference(**inputs.reference), case.dtype, case)
    return prepared


def merged(found: Statistics) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance [N, C] in float64, by the definition."""
    means, counts = found.means.double(), found.counts.double()[:, :, None]
    pixels = counts.sum(1)
    mean = (means * counts).sum(1) / pixels
    apart = counts * (means - mean[:, None]).square()
    return mean, (found.deviations.double() + apart).sum(1) / pixels


@pytest.mark.parametrize(("case", "config"), PARAMETERS)
def test_are_those_of_what_was_stored(case, config, device):
    prepared = run(case, config, device)
    found, out = prepared.statistics, prepared.out.double()
    assert torch.equal(found.counts.sum(1), torch.full_like(found.counts[:, 0], out[0, 0].numel()))
    variance, mean = torch.var_mean(out, dim=(2, 3), correction=0)
    for made, expected in zip(merged(found), (mean, variance), strict=True):
        torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("groups", [24, 1, 8])
def test_chunks_are_merged_in_blocks(groups, device, monkeypatch):
    """Of any numbers of pixels, the first ones of a block of none; far from zero."""
    monkeypatch.setattr(merge, "_VALUES", 4 * 32)
    generator = new_generator(device)
    means = 100 + torch.randn(2, 11, 24, generator=generator, device=device)
    deviations = 9 * torch.rand(2, 11, 24, generator=generator, device=device)
    counts = torch.randint(0, 9, (2, 11), generator=generator, device=device).float()
    counts[:, :5] = 0.0
    counts[:, 7] = 3.0
    means[counts == 0], deviations[counts == 0] = 0.0, 0.0
    gamma = torch.randn(24, generator=generator, device=device)
    norm, call = merge.prepare(Statistics(means, deviations, counts), gamma, groups, 1e-5)
    assert call.arguments["BLOCK_CHUNKS"] < 11
    poison(norm.centre)
    poison(norm.scale)
    call.run()
    mean, variance = merged(Statistics(means, deviations, counts))
    both = [x.view(2, groups, -1) for x in (mean, variance)]
    centre = both[0].mean(2, keepdim=True)
    variance = (both[1] + (both[0] - centre).square()).mean(2, keepdim=True)
    whole = torch.empty(2, groups, 24 // groups, dtype=torch.float64, device=device)
    scale = gamma.double() / (whole.copy_(variance).view(2, 24) + 1e-5).sqrt()
    torch.testing.assert_close(norm.scale.double(), scale, atol=1e-6, rtol=1e-5)
    expected = whole.copy_(centre).view(2, 24)
    torch.testing.assert_close(norm.centre.double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("groups", [0, 1, 8])
def test_a_norm_takes_them(groups, device):
    case = conv_transpose_cases.Case(2, 16, 4, 8, 24, dtype=HALF)
    prepared = run(case, BOXES, device)
    gamma, beta = torch.randn(2, 24, generator=new_generator(device), device=device)
    norm = normalise.prepare(
        prepared.out, gamma, beta, groups=groups, activation="relu", statistics=prepared.statistics
    )
    assert len(norm.calls) == 2
    poison(norm.out)
    expected = F.group_norm(prepared.out.float(), groups or 24, gamma, beta).relu()
    assert_close(norm.run(), expected.to(HALF), HALF)


def test_of_values_far_from_zero(device):
    case = conv_cases.Case(1, 16, 16, 16, 24, statistics=True)
    inputs = BY_NAME["conv"].inputs(case, new_generator(device), device)
    inputs.launch["bias"].fill_(1000.0)
    prepared = BY_NAME["conv"].prepare(**inputs.launch, config=NARROW)
    _, variance = merged((prepared.run(), prepared.statistics)[1])
    expected = prepared.out.double().var(dim=(2, 3), correction=0)
    torch.testing.assert_close(variance, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("case", "config"),
    [
        (conv_cases.Case(2, 32, 5, 7, 24), RUNS),
        (conv_cases.Case(4, 32, 2, 2, 24), BOXES),
        (conv_cases.Case(1, 32, 4, 4, 24), replace(RUNS, split_k=2)),
        (conv_cases.Case(1, 16, 4, 4, 24, shuffle=2), RUNS),
        (conv_cases.Case(1, 16, 4, 4, 3, epilogue=Epilogue(out_format="float32_nchw")), RUNS),
    ],
)
def test_there_are_none_where_tiles_do_not_fit(case, config, device):
    assert run(case, config, device).statistics is None


def test_refuses_too_little_memory(device):
    case = conv_cases.Case(1, 16, 4, 4, 24)
    inputs = BY_NAME["conv"].inputs(case, new_generator(device), device)
    with pytest.raises(ValueError, match="statistics: found 3"):
        BY_NAME["conv"].prepare(**inputs.launch, statistics=torch.empty(3, device=device))
    found = run(case, None, device).statistics
    with pytest.raises(ValueError, match="statistics: found"):
        normalise.prepare(inputs.launch["x"], statistics=found)
