"""Image-to-image recipes: training gets somewhere, resume is exact, the file is the module."""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import fastgan
from fastgan.errors import ArgumentError
from fastgan.host import processor
from fastgan.recipes import (
    denoise,
    inpaint,
    losses,
    photographs,
    restore_rl,
    trainer,
    translate,
    weights,
)
from fastgan.recipes.evaluation.inpaint import biharmonic
from fastgan.recipes.networks import UNet
from fastgan.recipes.photographs import Photographs
from fastgan.recipes.system import fixed
from fastgan.recipes.weights import halve
from tests.instructions import needs_bfloat16_in_torch

pytest.importorskip("skimage", reason="the photographs come with scikit-image")
CASES = {
    "denoise": ("denoise", {"distance": "rmse", "vary": True, "lr_end": 0.1}),
    "inpaint": ("inpaint", {}),
    "grey": ("translate", {"r1": 1.0}),
    "edges": ("translate", {"source": "edges"}),
    "restore-rl": ("restore_rl", {}),
    "style": ("style", {"spectral_norm": True}),
}


def made(case: str):
    name, changes = CASES[case]
    module = import_module(f"fastgan.recipes.{name}")
    settings = replace(module.SETTINGS["quick"], **changes)
    return module.build(settings, found(name))


@cache
def found(name: str):
    module = import_module(f"fastgan.recipes.{name}")
    return module.data(module.SETTINGS["quick"], None)


@pytest.mark.parametrize("case", CASES)
def test_a_quick_run_resumes_exactly_and_its_file_is_the_module(tmp_path, case):
    whole, first, second = (made(case) for _ in range(3))
    before, kept = whole.score(), []
    trainer.train(
        whole, tmp_path / "whole", steps=30, seed=1, on_step=lambda _, losses: kept.append(losses)
    )
    trainer.train(first, tmp_path / "parts", steps=20, seed=1)
    torch.manual_seed(99)  # nothing may depend on the global generator
    trainer.train(second, tmp_path / "parts", steps=30, seed=1, resume=True)
    for key, part in whole.state.items():
        other = second.state[key].state_dict()
        for name, value in part.state_dict().items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other[name]), (key, name)
    if case == "style":
        assert np.mean([losses["D"] for losses in kept[-5:]]) < kept[0]["D"]
    elif case == "inpaint":  # in so few steps it betters its smooth filling where it has looked
        twin = made(case)
        seen = [twin.step(fixed(1))["L1"] for _ in range(20)]
        assert seen[-1] < seen[0]
    elif case != "restore-rl":  # which explores, and from untrained weights
        assert whole.score() < before

    whole.export(tmp_path / "g.onnx")
    channels = 1 if CASES[case][0] == "translate" else 3
    image = torch.rand(2, channels, 64, 96, generator=fixed(4)) * 2 - 1
    mask = inpaint.holes(2, 96, fixed(2))[..., :64, :] if case == "inpaint" else None
    given = (image,) if mask is None else (image, mask)
    with torch.no_grad():
        expected = whole.finished()(*given)
    for backend in ("torch", "ort"):
        generator = fastgan.load(tmp_path / "g.onnx", backend=backend)
        result = generator(image) if mask is None else generator(image, mask=mask)
        torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    if case == "style":
        judge = whole.state["discriminator"].eval()
        with torch.no_grad():
            logits = judge(image)
        beside = fastgan.load(tmp_path / "g-discriminator.onnx")
        (found_logits,) = beside.run({"image": image}).values()
        torch.testing.assert_close(found_logits, logits.flatten(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["denoise", "inpaint", "restore_rl"])
def test_a_full_run_starts_and_its_file_loads(tmp_path, name):
    module = import_module(f"fastgan.recipes.{name}")
    settings = replace(module.SETTINGS["full"], batch=2, steps=2, device="cpu")
    recipe, draw = module.build(settings, module.data(settings, None)), fixed(1)
    losses = [recipe.step(draw) for _ in range(2)]
    assert all(np.isfinite(value) for step in losses for value in step.values())
    recipe.export(tmp_path / "g.onnx")
    generator = fastgan.load(tmp_path / "g.onnx")
    image = recipe.test.patches(1, 64, fixed(0))
    more = {"mask": torch.zeros(1, 1, 64, 64)} if name == "inpaint" else {}
    made = generator(image, **more)
    assert made.shape == image.shape
    assert (made - image).abs().mean() < 0.2  # they start near the image that they are given


@needs_bfloat16_in_torch
def test_in_bfloat16_the_smooth_filling_is_exact_all_the_same():
    settings = replace(inpaint.SETTINGS["quick"], precision="bf16")
    recipe = inpaint.build(settings, found("inpaint"))
    given, _ = recipe.pairs(2, 64)
    with recipe.autocast(), torch.no_grad():
        made = recipe.restored(recipe.generator, given)  # the network adds nothing yet
    smooth = inpaint.Inpainter.begun(given[:, :3], given[:, 3:])
    torch.testing.assert_close(made, smooth, atol=1e-6, rtol=0)


@pytest.mark.parametrize("has", [False, True])
def test_bfloat16_is_for_processors_that_have_it(has, monkeypatch, caplog):
    monkeypatch.setattr(processor, "has_bfloat16", lambda: has)
    settings = replace(inpaint.SETTINGS["quick"], precision="bf16", device="cpu")
    recipe = inpaint.build(settings, found("inpaint"))
    with recipe.autocast():
        assert torch.is_autocast_enabled("cpu") is has
    assert ("trained in fp32" in caplog.text) is not has


def test_the_step_size_follows_a_cosine_to_its_end():
    settings = replace(denoise.SETTINGS["quick"], steps=4, lr=0.1, lr_end=0.2, lr_discriminator=3)
    recipe = denoise.build(settings, found("denoise"))
    rates = [recipe.rate("generator", step) for step in range(6)]
    expected = [0.1, 0.1 - 0.04 * (1 - 0.5**0.5), 0.06, 0.02 + 0.04 * (1 - 0.5**0.5), 0.02, 0.02]
    assert rates == pytest.approx(expected)
    assert recipe.rate("discriminator", 4) == pytest.approx(0.06)
    seen = []
    for _ in range(3):
        recipe.step(fixed(0))
        seen.append(recipe.state["generator_optimizer"].state_dict()["param_groups"][0]["lr"])
    assert seen == pytest.approx(expected[:3])


def test_distances():
    real = torch.zeros(2, 3, 4, 4)
    images = torch.stack([torch.full((3, 4, 4), 0.5), torch.zeros(3, 4, 4)])
    images[1, :, 0, 0] = 0.8
    assert float(losses.distance(images, real, "l1")) == pytest.approx((0.5 + 0.05) / 2)
    assert float(losses.distance(images, real, "rmse")) == pytest.approx((0.5 + 0.2) / 2, rel=1e-3)
    with pytest.raises(ArgumentError, match="l1 or rmse"):
        denoise.build(replace(denoise.SETTINGS["quick"], distance="l2"), found("denoise"))


def test_patches_are_turned_in_eight_ways_and_half_of_them_paler_or_darker():
    patch = torch.linspace(-0.3, 0.3, 48).view(3, 4, 4)
    eight = [turned.rot90(k, (1, 2)) for turned in (patch, patch.flip(2)) for k in range(4)]
    mirrored = torch.stack([patch, patch.flip(2)] * 200)  # as `patches` does already
    found = photographs.varied(mirrored, fixed(0))
    known = [[torch.equal(image, way) for way in eight] for image in found]
    assert all(any(row[way] for row in known) for way in range(8))
    assert 140 < sum(not any(row) for row in known) < 260
    assert found.std() > 0.5 * patch.std()
    assert found.abs().max() <= 1


def test_the_policy_gradient_is_the_gradient_of_the_reward():
    """In the mean over many actions: the direction in which the images' PSNR grows."""
    recipe = restore_rl.build(
        replace(restore_rl.SETTINGS["quick"], adversarial=0.0, actions=512, sigma=0.05, entropy=0),
        found("restore_rl"),
    )
    real = recipe.train.patches(2, 16, fixed(0)) * 0.8  # so that no action is out of range
    mean = (real + 0.1 * torch.randn(real.shape, generator=fixed(1))).requires_grad_()
    noise = torch.randn(256, *real.shape, generator=fixed(2))
    actions = mean.detach() + 0.05 * torch.cat([noise, -noise])
    reward = recipe.rewards(real, actions, real)
    others = (reward.sum(0) - reward) / 511
    log_policy = (-0.5 * ((actions - mean) / 0.05).square()).sum(2)
    (found_gradient,) = torch.autograd.grad(((reward - others) * log_policy).mean(), mean)
    psnr = -10 * (mean - real).square().mean((1, 2, 3)).log10().sum()
    (expected,) = torch.autograd.grad(psnr, mean)
    assert functional.cosine_similarity(found_gradient.flatten(), expected.flatten(), 0) > 0.95
    worse = recipe.rewards(real, torch.stack([real, real + 0.1]), real).mean((1, 2, 3))
    assert worse[0] > worse[1]


def test_tuning_starts_from_the_weights_of_a_file(tmp_path):
    trained = made("denoise")
    draw = fixed(8)
    for weight in trained.average.parameters():
        weight.data.normal_(generator=draw)
    trained.export(tmp_path / "d.onnx")
    settings = replace(restore_rl.SETTINGS["quick"], start=str(tmp_path / "d.onnx"))
    tuned = restore_rl.build(settings, found("restore_rl"))
    for name, value in trained.average.state_dict().items():
        assert torch.equal(value, tuned.average.state_dict()[name]), name
    halve(tmp_path / "d.onnx")
    tuned = restore_rl.build(settings, found("restore_rl"))
    for name, value in trained.average.state_dict().items():
        stored = value.half().float() if value.numel() >= 1024 else value
        assert torch.equal(stored, tuned.average.state_dict()[name]), name
    with pytest.raises(ArgumentError, match="the network of these settings"):
        restore_rl.build(replace(settings, width=16), found("restore_rl"))
    with pytest.raises(ArgumentError, match="superres-x2"):
        weights.load(tuned.generator, "no-such-model")
    with pytest.raises(ArgumentError, match="even number"):
        restore_rl.build(replace(settings, actions=3), found("restore_rl"))


def test_nothing_is_read_under_the_mask_nor_changed_outside():
    network = inpaint.Inpainter(8)
    for weight in network.parameters():
        weight.data.normal_(0, 0.1, generator=fixed(3))
    image = torch.rand(2, 3, 64, 64, generator=fixed(0)) * 2 - 1
    mask = inpaint.holes(2, 64, fixed(1))
    other = torch.where(mask > 0, torch.rand(image.shape, generator=fixed(2)), image)
    with torch.no_grad():
        result = network(image, mask)
        assert torch.equal(result, network(other, mask))
    assert torch.equal(result * (1 - mask), image * (1 - mask))
    plain = torch.full_like(image, 0.3) * (1 - mask)
    smooth = inpaint.smoothly_filled(plain, 1 - mask)
    torch.testing.assert_close(smooth, torch.full_like(image, 0.3), atol=1e-5, rtol=0)


def test_the_smooth_filling_is_close_to_biharmonic():
    whole = photographs.photographs("train").patches(4, 64, fixed(5))
    masks = inpaint.holes(4, 64, fixed(6))
    known = whole * (1 - masks)
    smooth = known + masks * inpaint.smoothly_filled(known, 1 - masks)
    exact = biharmonic(whole, masks)
    apart = ((smooth - exact) * masks).square().sum()
    assert apart < 0.1 * ((exact - whole) * masks).square().sum()


def test_damage_is_what_it_says():
    flat = torch.zeros(2, 3, 64, 64)
    none = (0.0, 0.0)
    noisy = denoise.Damage(none, (25, 25), none, share=0)(flat, fixed(0))
    assert float(noisy.std()) * 127.5 == pytest.approx(25, rel=0.05)
    point = flat.clone()
    point[:, :, 32, 32] = 1
    spread = denoise.blurred(point, torch.tensor([0.0, 2.0]))
    assert torch.equal(spread[0], point[0])
    rows = torch.arange(64.0) - 32
    share = spread[1, 0] / spread[1, 0].sum()
    assert float((share.sum(1) * rows.square()).sum()) == pytest.approx(4, rel=0.05)
    picture = denoise.as_bytes(torch.rand(2, 3, 64, 64, generator=fixed(1)) * 2 - 1)
    worse = denoise.jpeg(picture, torch.tensor([0.0, 10.0]))
    assert (worse[0] == picture[0]).all()
    assert (worse[1] != picture[1]).any()
    assert torch.equal(denoise.from_bytes(denoise.as_bytes(noisy)), noisy)


def test_a_drawing_is_white_but_for_the_edges():
    image = torch.full((1, 3, 32, 32), -0.5)
    image[..., 16:] = 0.5
    drawing = translate.edges(image)
    assert (drawing[..., 15:17] < -0.9).all()
    assert (drawing[..., :14] == 1).all()
    assert translate.grey(torch.ones(1, 3, 2, 2)) == pytest.approx(torch.ones(1, 1, 2, 2).numpy())


def test_translation_leaves_out_what_is_grey():
    grey = torch.full((3, 80, 80), 9, dtype=torch.uint8)
    red = grey.clone()
    red[0] = 200
    assert len(translate.in_colour(Photographs((grey, red), "two")).pictures) == 1
    with pytest.raises(ArgumentError, match="grey or edges"):
        translate.build(replace(translate.SETTINGS["quick"], source="text"), found("translate"))


def test_a_collection_is_a_texture_or_a_folder(tmp_path):
    for index in range(3):
        Image.new("RGB", (80, 80), (9, index, 0)).save(tmp_path / f"{index}.png")
    assert photographs.collection("grass", "test", 64).pictures[0].shape[0] == 3
    assert len(photographs.collection(str(tmp_path), "train", 64).pictures) == 2
    with pytest.raises(ArgumentError, match="no folder"):
        photographs.collection("nowhere", "train", 64)
    for name, side in (("histology", 64), ("grass", 64)):
        shrink = 2 if name == "histology" else 1
        assert photographs.collection(name, "test", side, shrink).pictures[0].shape[1] == side
        with pytest.raises(ArgumentError, match=f"at most {side}"):
            photographs.collection(name, "test", side + 1, shrink)


def test_a_u_net_starts_as_zero_and_learns_everywhere():
    network = UNet(3, 2, (8, 12, 16))
    image = torch.rand(1, 3, 24, 40, generator=fixed(0))
    assert (network(image) == 0).all()
    assert network(image).shape == (1, 2, 24, 40)
    for weight in network.parameters():
        weight.data.normal_(0, 0.2, generator=fixed(1))
    network(image).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_weights_stored_in_half(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3, padding=1), torch.nn.Conv2d(64, 3, 1))
    path = tmp_path / "network.onnx"
    fastgan.export(network.eval(), path, image=(3, "height", "width"), range=(-1, 1))
    x, before = torch.rand(2, 3, 16, 16) * 2 - 1, path.stat().st_size
    exact = fastgan.load(path, device="cpu", backend="torch").run({"image": x})
    halve(path)
    assert path.stat().st_size < 0.7 * before
    for backend in ("torch", "ort"):
        g = fastgan.load(path, device="cpu", backend=backend)
        (made,) = g.run({"image": x}).values()
        (wanted,) = exact.values()
        error = (made - wanted).abs().max()
        assert 0 < error < 2e-3, backend
