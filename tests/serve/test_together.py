"""Which requests are run as one: those that lose nothing by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastgan as library
from fastgan.serve.requests import Asked, Reader, encode
from fastgan.serve.together import Together
from tests.drawing import new_random


def together(model: object) -> Together:
    generator = library.load(model)
    return Together("model", generator, Reader(generator))


def asked(runner: Together, **parameters: object) -> Asked:
    return runner.ready(runner.reader.read({}, parameters, ()))


def test_what_is_not_drawn_before_has_the_same_bytes(models) -> None:
    runner = together(models / "rgb.onnx")
    for parameters in ({"seed": 5, "n": 7}, {"seed": 9, "start": 3, "truncation": 0.5}):
        read = runner.reader.read({}, parameters, ())
        alone = runner.ready(read, alone=True)
        assert (alone.rows is None) == (runner.least == 1)
        found, expected = (runner.run([one])[0] for one in (alone, runner.ready(read)))
        np.testing.assert_array_equal(found["image_uint8"], expected["image_uint8"])


def test_what_is_brief(models, upscaler, monkeypatch) -> None:
    runner = together(models / "rgb.onnx")
    monkeypatch.setattr(runner, "_seconds", 0.0005)
    assert [runner.brief(asked(runner, n=n)) for n in (1, 4, 5)] == [True, True, False]
    assert not runner.brief(runner.reader.read({}, {}, ("image_png",)))
    assert not upscaler.brief(pictures(upscaler))


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


# Pictures -----------------------------------------------------------------------------------------


def pictures(runner: Together, n: int = 1, size: tuple[int, int] = (12, 10), **more) -> Asked:
    """A request for n pictures of noise; encoded as PNGs, or floats, if so asked."""
    random = np.random.default_rng(new_random().randrange(2**32))
    images = random.integers(0, 255, (n, *size, 3), np.uint8)
    if more.get("floats"):
        images = random.random((n, 3, *size), np.float32)
    if more.get("encoded"):
        images = encode(torch.from_numpy(images))
    name = runner._generator.signature.image.name
    return runner.ready(runner.reader.read({name: images}, {}, more.get("outputs", ())))


@pytest.fixture(scope="module")
def upscaler() -> Together:
    generator = library.load("superres-x2", device="cpu")
    return Together("model", generator, Reader(generator))


def test_pictures_of_one_size_are_one_run(upscaler, monkeypatch) -> None:
    wanted = [pictures(upscaler), pictures(upscaler, 2, encoded=True), pictures(upscaler)]
    assert upscaler.fit(wanted[:2], wanted[2])
    name = f"{upscaler._generator.signature.made.name}_uint8"
    alone = [
        np.stack([upscaler._generator([image], format="uint8")[0] for image in one.images])
        for one in wanted
    ]
    kind = upscaler._kind(wanted[0])
    upscaler.run(wanted)  # which finds out what is exact
    assert upscaler._exact[kind] > 1
    runs = []
    call = library.Generator.__call__

    def counted(self: object, images: list, **rest: object):
        runs.append(len(images))
        return call(self, images, **rest)

    monkeypatch.setattr(library.Generator, "__call__", counted)
    for order in (wanted, wanted[::-1]):
        for one, found in zip(order, upscaler.run(order), strict=True):
            np.testing.assert_array_equal(found[name], alone[wanted.index(one)])
    assert runs == [4, 4]


def test_pictures_that_are_not_alike(upscaler) -> None:
    one = pictures(upscaler)
    for other in (
        pictures(upscaler, size=(10, 12)),
        pictures(upscaler, floats=True),
        pictures(upscaler, outputs=(upscaler._generator.signature.made.name,)),
    ):
        assert not upscaler.fit([one], other)
    large = pictures(upscaler, size=(640, 640))
    assert not upscaler.fit([large], large)
    assert not upscaler.fit([pictures(upscaler, 8)], one)


def test_a_number_of_pictures_whose_results_differ_is_not_used(upscaler, monkeypatch) -> None:
    call = library.Generator.__call__

    def rounded(self: object, images: list, *, batch_size: int | None = None, **rest: object):
        found = call(self, images, batch_size=batch_size, **rest)
        return [image + 1 for image in found] if (batch_size or 1) > 2 else found

    monkeypatch.setattr(library.Generator, "__call__", rounded)
    monkeypatch.setattr(upscaler, "_exact", {})
    four = pictures(upscaler, 4, (9, 11))
    expected = np.stack([upscaler._generator([image], format="uint8")[0] for image in four.images])
    (found,) = upscaler.run([four])
    assert upscaler._exact[upscaler._kind(four)] == 2
    np.testing.assert_array_equal(
        found[f"{upscaler._generator.signature.made.name}_uint8"], expected
    )


def test_one_picture_that_fails_fails_alone(upscaler, monkeypatch) -> None:
    call = library.Generator.__call__
    good, bad = pictures(upscaler), pictures(upscaler)

    def refusing(self: object, images: list, **rest: object):
        if any(image is bad.images[0] for image in images):
            raise library.ArgumentError("images", "this one", "another")
        return call(self, images, **rest)

    monkeypatch.setattr(library.Generator, "__call__", refusing)
    made, error = upscaler.run([good, bad])
    assert isinstance(error, library.ArgumentError)
    assert len(made) == 1
