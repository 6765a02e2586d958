"""What the figures are made of: distances between collections, and judges that can say no."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch

from fastgan.errors import ArgumentError
from fastgan.recipes import images, photographs
from fastgan.recipes.evaluation import autoencoders, distances, faces, features, style, textures
from fastgan.recipes.system import fixed

pytest.importorskip("skimage", reason="faces and textures come with scikit-image")


def test_frechet_distance_is_the_closed_form():
    draw = fixed()
    a = torch.randn(300, 6, generator=draw) @ torch.randn(6, 6, generator=draw)
    b = torch.randn(200, 6, generator=draw) + 1
    cov = [np.cov(x.numpy(), rowvar=False) for x in (a, b)]
    root = scipy.linalg.sqrtm(cov[0] @ cov[1]).real
    means = a.mean(0).numpy() - b.mean(0).numpy()
    expected = means @ means + np.trace(cov[0] + cov[1] - 2 * root)
    assert distances.frechet(a, b) == pytest.approx(expected, rel=1e-4)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_unbiased():
    draw = fixed()
    same = [distances.kernel(*torch.randn(2, 20, 8, generator=draw)) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 200**0.5
    a, b = torch.randn(2, 5, 3, generator=draw).double()
    total = 0.0
    for x, y, sign in ((a, a, 1), (b, b, 1), (a, b, -2)):
        values = [
            (float(p @ q) / 3 + 1) ** 3
            for i, p in enumerate(x)
            for j, q in enumerate(y)
            if x is not y or i != j
        ]
        total += sign * np.mean(values)
    assert distances.kernel(a, b) == pytest.approx(total)


def test_a_new_discriminator_tells_apart_what_differs():
    draw = fixed()
    a, b = torch.randn(2, 400, 8, generator=draw)
    assert distances.told_apart(a, b) == pytest.approx(0.5, abs=0.08)
    assert distances.told_apart(a, b[:100] + 1) > 0.75
    assert distances.told_apart(a, b + 100) == 1


def test_distances_rank_collections():
    """Held-out digits are nearer to training digits than blurred, noisy or other images are."""
    train, test = images.digits("train")[0], images.digits("test")[0]
    noisy = (train[:400] + 0.7 * torch.randn(400, 1, 32, 32, generator=fixed())).clamp(-1, 1)
    half = torch.nn.functional.avg_pool2d(train[:400], 5, 1, 2)
    found = [distances.figures(x, test, train) for x in (train[:400], half, noisy)]
    for key in ("Frechet distance", "kernel distance"):
        assert found[0][key].value < min(found[1][key].value, found[2][key].value), key
        assert found[0][key].baseline == found[1][key].baseline
    few = distances.figures(photographs.faces("train"), photographs.faces("test"))
    assert list(few) == ["kernel distance"]  # twenty faces make no covariance


def test_features_take_colour_and_windows():
    grey = torch.rand(2, 1, 70, 100, generator=fixed()) * 2 - 1
    found = features.of(grey)
    assert found.shape == (2 * 2 * 3, features.COUNT)
    torch.testing.assert_close(features.of(grey.expand(-1, 3, -1, -1)), found, atol=1e-4, rtol=0)
    torch.testing.assert_close(features.of(grey[:, :, :32, :32]), found[::6], atol=1e-5, rtol=0)


def test_the_judge_of_faces_can_say_no():
    real = photographs.faces("test")
    good = faces.judge(photographs.faces("train"))
    assert good["faces"].reached
    assert good["novelty"].reached is False  # copies
    assert good["spread"].reached
    assert faces.judge(photographs.faces("test", without=True))["faces"].reached is False
    assert faces.judge(real[:1].repeat(30, 1, 1, 1))["spread"].reached is False


def test_the_judge_of_style_goes_by_more_than_colour():
    """Of photographs that only took tissue's colours it is not fooled."""
    photos, tissue = style._held_out()
    tinted = style.recoloured(photos, tissue)
    torch.testing.assert_close(tinted.mean((2, 3)), tissue.mean((2, 3)), atol=0.1, rtol=0)
    judge = style.judge()
    with torch.no_grad():
        taken = [float((judge(x) > 0).float().mean()) for x in (photos, tinted, tissue)]
    assert max(taken[:2]) < 0.2
    assert taken[2] > 0.95


def test_a_seam_is_seen():
    ramp = torch.linspace(-1, 1, 64).view(1, 1, 1, 64).expand(1, 1, 64, 64)
    wave = torch.sin(torch.arange(64) * torch.pi / 8).view(1, 1, 1, 64).expand(1, 1, 64, 64)
    across, within = textures._gradients(ramp)
    assert across / within == pytest.approx(63, rel=1e-3)
    across, within = textures._gradients(wave + wave.transpose(2, 3))
    assert 0.5 < across / within < 2


def test_the_walk_keeps_its_ends_and_its_length():
    a, b = torch.randn(2, 16, generator=fixed())
    b = b * a.norm() / b.norm()
    path = autoencoders.slerp(a, b, torch.linspace(0, 1, 5)[:, None])
    torch.testing.assert_close(path[0], a)
    torch.testing.assert_close(path[-1], b)
    torch.testing.assert_close(path.norm(dim=1), a.norm().expand(5))
    assert torch.equal(autoencoders.slerp(a, a, torch.zeros(1, 1))[0], a)


def test_inception_is_torch_fidelitys(tmp_path, monkeypatch):
    """What it is given, and what is made of its answer; the real one is in the next test."""
    digits = images.digits("test")[0][:3]
    weights = tmp_path / "weights.pth"
    with pytest.raises(ArgumentError, match="no file"):
        distances.inception(digits, digits, weights)
    torch.save({}, weights)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ArgumentError, match="no torch-fidelity"):
        distances.inception(digits, digits, weights)
    asked = {}

    def calculate_metrics(**options):
        asked.update(options)
        return {"frechet_inception_distance": 7.0, "kernel_inception_distance_mean": 0.5}

    stub = SimpleNamespace(calculate_metrics=calculate_metrics)
    monkeypatch.setitem(sys.modules, "torch_fidelity", stub)
    found = distances.inception(digits, digits, weights)
    assert (found["FID"].value, found["KID"].value) == (7, 0.5)
    assert asked["feature_extractor_weights_path"] == str(weights)
    assert asked["fid"]
    assert asked["kid"]
    assert len(asked["input1"]) == 3
    assert (asked["input1"][0].shape, asked["input1"][0].dtype) == ((3, 32, 32), torch.uint8)
    for damaged in (b"", b"no weights", weights.read_bytes()[:-40]):
        weights.write_bytes(damaged)
        with pytest.raises(ArgumentError, match="weights-inception"):
            distances.inception(digits, digits, weights)


def test_fid_and_kid_of_torch_fidelity_itself(tmp_path, monkeypatch):
    """On weights of Inception's structure, drawn at random: they are our distances of its features.

    Without the weights of papers this shows that it runs and what it computes, no paper's FID.
    """
    pytest.importorskip("torch_fidelity", reason="pip install 'fastgan[fidelity]'")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    def drawn(network, state):
        for weight in network.parameters():
            if weight.dim() == 4:  # so that the features differ, through 40 layers
                torch.nn.init.kaiming_normal_(weight, generator=fixed(7))

    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", drawn)
        patch.setattr(torch, "load", lambda *_, **__: {})
        network = FeatureExtractorInceptionV3("random", ["2048"], "no file")
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)

    real = images.digits("test")[0]
    sides = real[:8], real[8:16].flip(3)
    found = distances.inception(*sides, file)
    pixels = [distances._Bytes(x)._pixels for x in sides]
    first, second = (network(x)[0] for x in pixels)
    assert found["FID"].value == pytest.approx(distances.frechet(first, second), rel=1e-3)
    assert found["KID"].value == pytest.approx(distances.kernel(first, second), rel=1e-3)
    assert found["FID"].value > 0

    torch.save({"fc.weight": torch.zeros(3)}, file)
    with pytest.raises(ArgumentError, match="weights-inception"):
        distances.inception(*sides, file)
