"""Arguments as NumPy and PyTorch users pass them; what makes no sense is an ArgumentError."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import fastgan
from fastgan import ArgumentError, latents
from fastgan.host import arguments
from fastgan.model import stated as signature_metadata
from fastgan.model.signature import Input, Output, Signature
from fastgan.realtime import Drift, Mix, Nudge, Orbit, Retime, SeedPath
from fastgan.realtime.walks.space import Space
from tests.unit.inputs.test_named_inputs import psi_model, scaled
from tests.unit.test_generator import Conditional

#: Three, in every form.
THREES = [
    *(3, np.int8(3), np.uint8(3), np.int64(3), np.uint64(3), np.array(3), np.array(3, np.int16)),
    *(torch.tensor(3), torch.tensor(3, dtype=torch.int8), torch.tensor(3, dtype=torch.uint8)),
]
NO_NUMBERS = [
    True,
    np.bool_(True),
    torch.tensor(True),
    "3",
    b"3",
    None,
    math.nan,
    np.array([3]),
    [3],
]
NO_NUMBERS += [
    np.array([[3]]),
    torch.tensor([3]),
    3j,
    {},
    np.float32("nan"),
    torch.empty((), device="meta"),
]
NOT_WHOLE = [*NO_NUMBERS, 1.5, 3.0, np.float32(3), torch.tensor(3.0), Fraction(3), math.inf, -1, 0]
SEEDS = [[3, 5], (3, 5), np.array([3, 5]), np.array([3, 5], np.uint8), torch.tensor([3, 5])]
SEEDS += [range(3, 6, 2), [np.int64(3), torch.tensor(5)]]
NO_SEEDS = [
    True,
    -1,
    1.5,
    math.nan,
    "1",
    None,
    np.zeros((2, 2), int),
    2**64,
    [[1], [2]],
    [1.0, 2.0],
]
NO_SEEDS += [[True, False], np.array([1.0, 2.0]), torch.eye(2).long(), ["1", "2"], [-1, 0], {1, 2}]


def ids(value: Any) -> str:
    return f"{type(value).__name__}-{value!r}"[:40]


@pytest.fixture(scope="module")
def generator() -> fastgan.Generator:
    return fastgan.load(psi_model(name="w"), device="cpu", signature={
        "inputs": [{"name": "w", "kind": "scalar", "default": np.float32(1)}],
        "outputs": [{"name": "y", "kind": "image", "range": torch.tensor([-1.0, 1.0])}],
    })  # fmt: skip


@pytest.fixture(scope="module")
def upscaler() -> fastgan.Generator:
    return fastgan.load(scaled(()), device="cpu")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> fastgan.Generator:
    path = tmp_path_factory.mktemp("conditional") / "c.onnx"
    names = ("red", "green", "blue")
    three = np.int64(3)
    module = Conditional().eval()
    ends = np.array([-1.0, 1.0])
    fastgan.export(
        module,
        path,
        latent=np.array([4]),
        labels=three,
        class_names=names,
        range=ends,
        verify=False,
    )
    return fastgan.load(path, device="cpu")


@pytest.mark.parametrize("three", THREES, ids=ids)
def test_whole_numbers(
    generator: fastgan.Generator, upscaler: fastgan.Generator, three: Any
) -> None:
    expected = generator.generate(3, seed=3, start=3)
    assert torch.equal(generator.generate(three, seed=three, start=three), expected)
    assert torch.allclose(generator.generate(three, seed=3, start=3, batch_size=three), expected)
    assert torch.equal(generator.latents(three, seed=three), generator.latents(3, seed=3))
    assert generator.plan(three) is generator.plan(3)
    generator.warm_up([three])
    assert torch.equal(latents.normal(three, three, seed=three, start=three, stream=three),
                       latents.normal(3, 3, seed=3, start=3, stream=3))  # fmt: skip
    image = torch.rand(3, 3, 9, 9)
    made = upscaler(image, w=1, tile=three, tile_pad=three, batch_size=three, seed=three)
    assert torch.equal(made, image)


@pytest.mark.parametrize("wrong", NOT_WHOLE, ids=ids)
def test_what_is_no_whole_number(
    generator: fastgan.Generator, upscaler: fastgan.Generator, wrong: Any
) -> None:
    with pytest.raises(ArgumentError, match=r"^n: "):
        generator.generate(wrong)
    with pytest.raises(ArgumentError, match=r"^n: "):
        generator.latents(wrong)
    with pytest.raises(ArgumentError, match=r"^sizes: "):
        generator.warm_up([wrong])
    with pytest.raises(ArgumentError, match=r"^batch: "):
        generator.plan(wrong)
    with pytest.raises(ArgumentError, match=r"^batch: "):
        generator.stream(batch=wrong)
    if wrong is not None:
        with pytest.raises(ArgumentError, match=r"^batch_size: "):
            generator.generate(2, batch_size=wrong)
        with pytest.raises(ArgumentError, match=r"^batch_size: "):
            upscaler(torch.rand(1, 3, 8, 8), w=1, batch_size=wrong)
    if not (isinstance(wrong, int) and wrong == 0):
        with pytest.raises(ArgumentError, match=r"^start: "):
            generator.generate(2, start=wrong)


@pytest.mark.parametrize("seeds", SEEDS, ids=ids)
def test_seeds(generator: fastgan.Generator, seeds: Any) -> None:
    expected = generator.generate(2, seed=[3, 5])
    assert torch.equal(generator.generate(2, seed=seeds), expected)
    assert torch.equal(generator.latents(2, seed=seeds), generator.latents(2, seed=[3, 5]))
    assert SeedPath(seeds) == SeedPath((3, 5))
    with generator.stream(latents=seeds, frames=1, format="float32", policy="every") as stream:
        assert torch.allclose(next(stream).images[0], expected[0], atol=1e-6)


@pytest.mark.parametrize("seeds", NO_SEEDS, ids=ids)
def test_what_is_no_seed(
    generator: fastgan.Generator, upscaler: fastgan.Generator, seeds: Any
) -> None:
    with pytest.raises(ArgumentError, match=r"^seed: "):
        generator.generate(2, seed=seeds)
    with pytest.raises(ArgumentError, match=r"^seed: "):
        upscaler(torch.rand(2, 3, 8, 8), w=1, seed=seeds)
    with pytest.raises(ArgumentError, match=r"^seed: "):
        generator.stream(seed=seeds)


@pytest.mark.parametrize("half", [0.5, np.float16(0.5), np.float64(0.5), np.array(0.5),
                                  torch.tensor(0.5), Fraction(1, 2)], ids=ids)  # fmt: skip
def test_numbers(generator: fastgan.Generator, half: Any) -> None:
    made = generator.generate(2, truncation=half, seed=1)
    assert torch.equal(made, generator.generate(2, truncation=0.5, seed=1))
    options = {"fps": half, "budget_ms": 1e6, "similarity": half, "speed": half}
    with generator.stream(truncation=half, frames=1, **options) as stream:
        stream.set(speed=half, position=half, truncation=half, seed=np.uint8(4))
    space = Space((8,))
    for walk, same in (
        (Drift(3, half), Drift(3, 0.5)),
        (Orbit(np.int64(3), half, np.int8(2)), Orbit(3, 0.5, 2)),
        (Nudge(Drift(3), half, half), Nudge(Drift(3), 0.5, 0.5)),
        (Mix(Drift(3), Drift(4), half), Mix(Drift(3), Drift(4), 0.5)),
        (Retime(Drift(3), half, half), Retime(Drift(3), 0.5, 0.5)),
    ):
        assert torch.equal(walk.at(1, 2, space), same.at(1, 2, space))
    assert fastgan.Limits(seconds=half).seconds == 0.5


@pytest.mark.parametrize("wrong", [w for w in NO_NUMBERS if w is not None], ids=ids)
def test_what_is_no_number(generator: fastgan.Generator, wrong: Any) -> None:
    for name in ("fps", "budget_ms", "similarity", "speed", "truncation"):
        with pytest.raises(ArgumentError, match=rf"^{name}: "):
            generator.stream(**{name: wrong})
    with pytest.raises(ArgumentError, match=r"^truncation: "):
        generator.generate(1, truncation=wrong)
    with pytest.raises(ArgumentError, match="seconds"):
        fastgan.Limits(seconds=wrong)
    with pytest.raises(ArgumentError, match="frames"):
        Drift(0, wrong)


def test_labels(conditional: fastgan.Generator) -> None:
    expected = conditional.generate(2, labels=[1, 2])
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        given = torch.tensor([1, 2], dtype=dtype)
        assert torch.equal(conditional.generate(2, labels=given), expected)
        assert torch.equal(conditional.generate(2, labels=given.numpy()), expected)
        one = conditional.generate(2, labels=given[0])
        assert torch.equal(one, conditional.generate(2, labels="green"))
    for named in (("green", "blue"), np.array(["green", "blue"]), (np.str_("green"), np.int32(2))):
        assert torch.equal(conditional.generate(2, labels=named), expected)
    assert torch.equal(conditional.generate(2, labels=range(1, 3)), expected)
    wrong = (
        True,
        1.0,
        math.nan,
        [1.0, 2.0],
        torch.eye(2),
        [[1], [2]],
        [True, False],
        [None, 1],
        {},
    )
    for labels in wrong:
        with pytest.raises(ArgumentError, match=r"^labels: "):
            conditional.generate(2, labels=labels)


def test_sizes() -> None:
    textures = fastgan.load("texture-gravel", device="cpu")
    expected = textures.generate(1, size=(128, 64))
    for size in ([128, 64], np.array([128, 64]), torch.tensor([128, 64]), (np.int32(128), 64)):
        assert torch.equal(textures.generate(1, size=size), expected)
    for size in ("64", 64, (64,), (64.0, 64), (True, 64), (0, 64), (64, 64, 3), np.eye(2)):
        with pytest.raises(ArgumentError, match=r"^size: "):
            textures.generate(1, size=size)
        with pytest.raises(ArgumentError, match=r"^size: "):
            textures.stream(size=size)


def test_the_home_of_the_conversions() -> None:
    assert type(arguments.whole("n", np.int64(7))) is int
    assert type(arguments.number("x", torch.tensor(0.5))) is float
    assert arguments.number("x", 10**30) == 1e30
    with pytest.raises(ArgumentError, match="finite"):
        arguments.number("x", 10**400)
    with pytest.raises(ArgumentError, match=r"from 2 to 4"):
        arguments.whole("n", 5, 2, 4)
    long = arguments.text("x" * 1000)
    assert len(long) <= 80
    assert arguments.text(np.zeros((2, 3))) == "ndarray of shape (2, 3)"


def test_a_signature_of_arrays() -> None:
    ports = (Input("z", "latent", ("n", 8), distribution="normal"),)
    guess = Signature(ports, (Output("y", "image", ("n", 3, 4, 4)),))
    document = {"outputs": [{"name": "y", "kind": "image", "range": np.array([0, 1.0])}]}
    assert signature_metadata.override(guess, document).outputs[0].range == (0.0, 1.0)
    with pytest.raises(ArgumentError, match="signature"):
        signature_metadata.override(guess, {"outputs": [{"name": object()}]})
