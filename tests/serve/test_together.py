"""Which requests are run as one: those that lose nothing by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastgan as library
from fastgan.serve.requests import Asked, Reader
from fastgan.serve.together import Together
from tests.drawing import new_random


def together(model: object) -> Together:
    generator = library.load(model)
    return Together("model", generator, Reader(generator))


def asked(runner: Together, **parameters: object) -> Asked:
    return runner.ready(runner.reader.read({}, parameters, ()))


@pytest.mark.parametrize("model", ["rgb", "classes"])
def test_the_same_bytes_in_any_company(models, model) -> None:
    runner, random = together(models / f"{model}.onnx"), new_random()
    assert runner.largest > runner.least
    wanted = [
        asked(runner, seed=random.randrange(2**63), start=random.randrange(99), n=n, truncation=t)
        for n, t in ((1, None), (2, 0.5), (5, None), (1, 0.7), (3, None))
    ]
    assert runner.fit(wanted[:-1], wanted[-1])
    alone = [runner.run([one])[0]["image_uint8"] for one in wanted]
    for order in (wanted, wanted[::-1]):
        for one, found in zip(order, runner.run(order), strict=True):
            np.testing.assert_array_equal(found["image_uint8"], alone[wanted.index(one)])
    if runner.least == 1:
        seed = wanted[0].arguments
        made = library.load(models / f"{model}.onnx").generate(1, format="uint8", **seed)
        np.testing.assert_array_equal(alone[0], made.numpy())


def test_a_size_whose_rows_differ_is_not_used(models, monkeypatch) -> None:
    """As of a library whose kernel for more than four rows rounds otherwise."""
    generate = library.Generator.generate

    def rounded(self: object, n: int, *, batch_size: int | None = None, **rest: object):
        images = generate(self, n, batch_size=batch_size, **rest)
        return images + 1e-6 if (batch_size or 1) > 4 else images

    monkeypatch.setattr(library.Generator, "generate", rounded)
    runner = together(models / "rgb.onnx")
    assert (runner.least, runner.largest) == (1, 4)
    assert not runner.fit([asked(runner, n=3)], asked(runner, n=2))


def test_requests_that_differ_in_more_than_rows(models) -> None:
    runner = together(models / "rgb.onnx")
    floats = runner.ready(runner.reader.read({}, {}, ("image",)))
    assert not runner.fit([asked(runner)], floats)
    assert runner.fit([asked(runner)], asked(runner, seed=4))


def test_one_that_fails_fails_alone(models, monkeypatch) -> None:
    runner = together(models / "rgb.onnx")
    wrong = asked(runner, seed=5)
    assert wrong.rows is not None
    wrong.rows["z"][:] = torch.nan
    run = Together._run

    def refusing(self: Together, rows, *rest):
        if rows["z"].isnan().any():
            raise library.ArgumentError("z", "a NaN", "numbers")
        return run(self, rows, *rest)

    monkeypatch.setattr(Together, "_run", refusing)
    good, bad = runner.run([asked(runner, seed=4), wrong])
    assert isinstance(bad, library.ArgumentError)
    assert good["image_uint8"].shape == (1, 8, 8, 3)
