"""The generative recipes: a quick run whose loss falls, exact resume, a file that is the module."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan
from fastgan.errors import ArgumentError
from fastgan.recipes import aae, cgan, dcgan, losses, texture, trainer, vae
from fastgan.recipes.autoencoder import Pair
from fastgan.recipes.system import fixed

pytest.importorskip("skimage", reason="faces and textures come with scikit-image")

#: Each with what makes it cheaper than its quick preset, and the loss that must fall.
CASES = {
    "cgan": ({"batch": 8}, "D"),
    "cgan with every stabiliser": ({"batch": 8, "r1": 1.0, "spectral_norm": True}, "D"),
    "vae": ({}, "ELBO"),
    "vae of faces": ({"subject": "faces"}, "ELBO"),
    "aae": ({}, "MSE"),
    "texture": ({}, "D"),
}


def quick(case: str) -> tuple[ModuleType, object]:
    module = import_module(f"fastgan.recipes.{case.split()[0]}")
    return module, replace(module.SETTINGS["quick"], **CASES[case][0])


@pytest.mark.parametrize("case", CASES)
def test_a_quick_run(tmp_path, case):
    """Twenty steps, in one go and in two: the same weights; and the file gives their images."""
    module, settings = quick(case)
    found = module.data(settings, None)
    whole, first, second = (module.build(settings, found) for _ in range(3))
    kept: list[dict[str, float]] = []
    trainer.train(
        whole, tmp_path / "whole", steps=20, seed=1, on_step=lambda _, losses: kept.append(losses)
    )
    trainer.train(first, tmp_path / "parts", steps=5, seed=1)
    torch.manual_seed(99)
    trainer.train(second, tmp_path / "parts", steps=20, seed=1, resume=True)
    for name, weight in whole.average.state_dict().items():
        assert torch.equal(weight, second.average.state_dict()[name]), name

    key = CASES[case][1]
    early, late = (np.mean([row[key] for row in part]) for part in (kept[:4], kept[-4:]))
    assert late > early if key == "ELBO" else late < early
    assert len(list((tmp_path / "whole" / "samples").iterdir())) == 1

    whole.export(tmp_path / "g.onnx")
    g = fastgan.load(tmp_path / "g.onnx", precision="fp32")
    made = g.generate(3, seed=5) if g.signature.label is None else g.generate(3, seed=5, labels=7)
    finished = whole.finished()
    network = finished.decoder if isinstance(finished, Pair) else finished
    told = () if g.signature.label is None else (torch.full((3,), 7),)
    with torch.no_grad():
        expected = network(g.latents(3, seed=5), *told)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
    if isinstance(finished, Pair):
        encoder = fastgan.load(tmp_path / "g-encoder.onnx")
        given = whole.held_out[:3]
        with torch.no_grad():
            wanted = finished.encoder(given)
        torch.testing.assert_close(
            encoder.run({"image": given})["output"], wanted, atol=1e-4, rtol=0
        )


def test_held_out_images_are_not_trained_on(tmp_path):
    for settings in (vae.SETTINGS["quick"], replace(vae.SETTINGS["quick"], subject="faces")):
        train, test = vae.data(settings, None)
        known = {picture.numpy().tobytes() for picture in train}
        assert not any(picture.numpy().tobytes() in known for picture in test)
    for index in range(6):
        Image.new("L", (32, 32), 40 * index).save(tmp_path / f"{index}.png")
    train, test = aae.data(aae.SETTINGS["quick"], tmp_path)
    assert (len(train), len(test)) == (4, 2)
    faces = dcgan.data(replace(dcgan.SETTINGS["quick"], subject="faces"), None)
    assert faces.shape == (160, 1, 32, 32)  # 80 and their mirror images
    upper, lower = (texture.part(texture.SETTINGS["quick"], None, s) for s in ("train", "test"))
    assert upper.pictures[0].shape[1] + lower.pictures[0].shape[1] == 256


def test_a_texture_of_ones_own(tmp_path):
    settings = replace(texture.SETTINGS["quick"], batch=2, reach=1)
    Image.effect_noise((80, 60), 90).save(tmp_path / "noise.png")
    built = texture.build(settings, texture.data(settings, tmp_path))
    trainer.train(built, tmp_path / "out", steps=1, seed=0)
    assert built.samples(4).shape[1] == 3
    Image.new("L", (80, 40)).save(tmp_path / "small.png")
    with pytest.raises(ArgumentError, match=r"small\.png: found 80x40 pixels; needed .* 32x43"):
        texture.data(settings, tmp_path)


@pytest.mark.parametrize("reach", [0, 2])
def test_a_texture_wraps_around(reach):
    """Moving the field by a place moves the image by 8 pixels, around the edges."""
    network = texture.Generator(6, 1, 8, reach).eval()
    field = torch.randn(1, 6, 4, 5, generator=fixed())
    with torch.no_grad():
        image, moved = network(field), network(field.roll((1, 2), (2, 3)))
    assert image.shape == (1, 1, 32, 40)
    torch.testing.assert_close(image.roll((8, 16), (2, 3)), moved, atol=1e-5, rtol=0)


def test_the_elbo_is_that_of_the_paper():
    """Against torch's own distributions."""
    mean, log_variance = torch.randn(2, 5, 7, generator=fixed(1))
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(vae.divergence(mean, log_variance), expected.sum(1))
    images, decoded = torch.randn(2, 3, 1, 8, 8, generator=fixed(2))
    sigma = (images - decoded).square().mean().sqrt()
    density = torch.distributions.Normal(decoded, sigma).log_prob(images).flatten(1).sum(1).mean()
    torch.testing.assert_close(vae.likelihood(images, decoded), density, rtol=1e-4, atol=0)


def test_mode_seeking_punishes_images_that_are_alike():
    latents = torch.randn(8, 3, generator=fixed())
    alike, apart = torch.zeros(8, 1, 4, 4), torch.randn(8, 1, 4, 4, generator=fixed(1))
    assert losses.mode_seeking(alike, latents, 4) > 20 * losses.mode_seeking(apart, latents, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: cgan.data(cgan.SETTINGS["quick"], path), "needs classes"),
        (lambda _: dcgan.data(replace(dcgan.SETTINGS["quick"], subject="cats"), None), "cats"),
        (lambda _: vae.data(replace(vae.SETTINGS["quick"], subject="cats"), None), "cats"),
        (lambda _: texture.data(replace(texture.SETTINGS["quick"], texture="mud"), None), "mud"),
        (lambda _: texture.build(replace(texture.SETTINGS["quick"], size=36), None), "of 8"),
        (lambda _: texture.build(replace(texture.SETTINGS["quick"], reach=2), None), "reach"),
        (lambda _: texture.data(replace(texture.SETTINGS["quick"], size=200), None), "at most 192"),
        (lambda _: texture.data(replace(texture.SETTINGS["quick"], shrink=0), None), "1 to 8"),
        (lambda _: vae.build(replace(vae.SETTINGS["quick"], size=64), None), "32"),
        (lambda _: cgan.build(replace(cgan.SETTINGS["quick"], size=64), None), "32"),
    ],
)
def test_what_is_refused(tmp_path, call, message):
    with pytest.raises(ArgumentError, match=message):
        call(tmp_path)
