"""The reference and the comparison: against eager PyTorch, and against numbers made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import fastgan
from fastgan.loading import open_model
from fastgan.measure import parity
from fastgan.measure.reference import as_module, run_reference
from fastgan.measure.subject import batch_of, example_inputs, run_batched
from fastgan.model.opened import Model
from fastgan.model.signature import Output
from tests import networks

IMAGE = Output("image", "image", ("n", 1, 2, 2), range=(-1.0, 1.0))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """A small DCGAN and its file."""
    module = networks.dcgan(17, 5, 3, seed=1)
    path = tmp_path_factory.mktemp("bench") / "small.onnx"
    fastgan.export(module, path, latent=(17, 1, 1), verify=False)
    return module, path


@pytest.fixture(scope="module")
def model(small: tuple[torch.nn.Module, Path]) -> Model:
    return open_model(str(small[1]))


def test_the_reference_is_eager_pytorch(small, model) -> None:
    module, _ = small
    inputs = example_inputs(model, 5, seed=int(torch.randint(2**31, ())))
    found = run_reference(as_module(model, 5), model, inputs)
    with torch.inference_mode():
        expected = module(*inputs.values())
    assert (found[model.output.name] - expected).abs().max() <= 2e-6


def test_the_reference_keeps_every_node(model) -> None:
    """Nothing is fused: as many calls as the file has nodes that depend on data."""
    calls = [node for node in as_module(model, 2).graph.nodes if node.op == "call_function"]
    assert len(calls) == len(model.file.model.graph)


def test_inputs_are_a_function_of_the_seed(model) -> None:
    (name,) = example_inputs(model, 1)
    first, again, other = (example_inputs(model, 3, seed)[name] for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (3, 17, 1, 1)


def test_batched_runs_give_every_image(small, model) -> None:
    _, path = small
    generator = fastgan.load(path, backend="torch")
    inputs = example_inputs(model, 150)
    name = model.output.name
    expected = run_reference(as_module(model, 150), model, inputs)[name]
    assert (
        run_batched(generator, inputs, name, batch_of(generator)) - expected
    ).abs().max() <= 2e-5


def test_comparison_by_hand() -> None:
    reference = torch.zeros(1, 1, 2, 2)
    shifted = reference.clone()
    shifted[0, 0, 0, 0] = 0.02
    found = parity.compare(shifted, reference, IMAGE)
    assert found.max_abs == pytest.approx(0.02)
    assert found.psnr == pytest.approx(10 * math.log10(4 / (0.02**2 / 4)), abs=1e-4)
    # Half-way between 127 and 128 goes to the even one, 128; 0.02 is 2.55 levels: 130.05.
    assert found.max_uint8 == 2
    equal = parity.compare(reference, reference, IMAGE)
    assert (equal.max_abs, equal.psnr, equal.max_uint8) == (0.0, math.inf, 0)


def test_differences_are_in_units_of_the_range() -> None:
    wide = Output("image", "image", ("n", 1, 2, 2), range=(0.0, 255.0))
    reference = torch.full((1, 1, 2, 2), 100.0)
    found = parity.compare(reference + 1.0, reference, wide)
    assert found.max_abs == pytest.approx(2 / 255)
    assert found.max_uint8 == 1
    features = Output("out", "tensor", ("n", 3))
    found = parity.compare(
        torch.tensor([[10.0, 4.0, -8.0]]), torch.tensor([[10.0, 4.0, 0.0]]), features
    )
    assert found.max_abs == pytest.approx(0.8)
    assert found.max_uint8 is None


@pytest.mark.parametrize("precision", parity.TOLERANCES)
def test_nan_is_never_within(precision) -> None:
    reference = torch.zeros(1, 1, 2, 2)
    broken = torch.full_like(reference, math.nan)
    assert not parity.compare(broken, reference, IMAGE).within(precision)


def test_tolerances() -> None:
    reference = torch.zeros(1, 1, 2, 2)
    assert parity.compare(reference + 1.9e-5, reference, IMAGE).within("fp32")
    assert not parity.compare(reference + 2.1e-5, reference, IMAGE).within("fp32")
    assert parity.compare(reference + 0.019, reference, IMAGE).within("bf16")  # 40.4 dB
    assert not parity.compare(reference + 0.021, reference, IMAGE).within("bf16")  # 39.6 dB
