"""The prototype of a network in one launch: its numbers, a layer at a time."""

import pytest
import torch
from torch import nn

from benchmarks.whole_network import call, layers, memory
from fastgan.kernels.types import INTERPRETED


@pytest.mark.skipif(not INTERPRETED, reason="by programs that do not wait for one another")
def test_layer_by_layer_it_is_dcgan() -> None:
    torch.manual_seed(0)
    network = layers(16)
    for layer in network:
        nn.init.normal_(layer.weight, std=(layer.in_channels * 4) ** -0.5)
    at = memory(network)
    for tensor in (at.sums_0, at.sums_1, at.sums_2, at.sums_3, at.image):
        tensor.fill_(torch.nan)
    at.latents.normal_()
    expected = at.latents.view(1, 100, 1, 1)
    with torch.inference_mode():
        for i, layer in enumerate(network):
            call(at, i, i, groups=4).run()
            expected = layer(expected)
            if i < 4:
                made = at[11 + i].sum(0).movedim(-1, 0) + layer.bias[:, None, None]
                expected = expected.relu()
                assert (made.relu() - expected[0]).abs().max() < 5e-3 * expected.abs().max(), i
        assert (at.image - expected[0].tanh()).abs().max() < 5e-3
    assert at.arrived.item() == 0  # no program of one layer waits
