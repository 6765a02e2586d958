"""Training: a quick run, exact resume, and what stops or refuses a run."""

import _thread
import signal
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from fastgan.errors import ArgumentError
from fastgan.recipes import dcgan, images, losses, trainer
from fastgan.recipes.dcgan import DcganSettings

QUICK = replace(dcgan.SETTINGS["quick"], batch=4)


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return images.digits("train")[0][:64]


def weights(recipe) -> dict[str, torch.Tensor]:
    """Every tensor that training changes, the optimizers' moments included."""
    found = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, part in value.items():
                collect(f"{name}/{key}", part)

    collect("", {name: part.state_dict() for name, part in recipe.state.items()})
    return found


def test_the_average_holds_nothing_of_the_untrained_weights(digits):
    recipe, draw = dcgan.build(QUICK, digits), torch.Generator().manual_seed(3)
    recipe.step(draw)
    first = [weight.clone() for weight in recipe.generator.parameters()]
    torch.testing.assert_close(list(recipe.average.parameters()), first)
    recipe.step(draw)
    share = 1 / (1 + QUICK.average)  # of the later one: it counts for 1, the first for `average`
    for mean, early, late in zip(
        recipe.average.parameters(), first, recipe.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(mean.data, early.lerp(late.data, share))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "minimax", "r1": 1.0, "spectral_norm": True, "precision": "bf16", "hidden": 0},
    ],
    ids=["as it comes", "every option"],
)
def test_resume_is_exact(tmp_path, digits, changes):
    settings = replace(QUICK, **changes)
    whole, first, second = (dcgan.build(settings, digits) for _ in range(3))
    start = {name: tensor.clone() for name, tensor in weights(whole).items()}
    kept: list[dict[str, float]] = []
    outcome = trainer.train(
        whole, tmp_path / "whole", steps=20, seed=5, on_step=lambda _, losses: kept.append(losses)
    )
    assert outcome == trainer.Outcome(20, False, kept[-1])
    assert len(kept) == 20
    trainer.train(first, tmp_path / "parts", steps=10, seed=5)
    torch.manual_seed(99)  # nothing may depend on the global generator
    resumed: list[dict[str, float]] = []
    trainer.train(
        second,
        tmp_path / "parts",
        steps=20,
        seed=5,
        resume=True,
        on_step=lambda _, losses: resumed.append(losses),
    )
    assert resumed == kept[10:]
    after, once = weights(second), weights(whole)
    assert after.keys() == once.keys()
    different = [name for name in once if not torch.equal(once[name], after[name])]
    assert not different
    assert not all(torch.equal(start[name], once[name]) for name in start)  # it did train
    assert torch.equal(whole.samples(4), second.samples(4))


def test_the_whole_way_to_a_model_file(tmp_path, digits):
    recipe = dcgan.build(QUICK, digits)
    trainer.train(recipe, tmp_path, steps=4, seed=0, samples_every=2, checkpoint_every=3)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["000002.png", "000004.png"]
    assert [p.name for p in tmp_path.glob("checkpoint*")] == ["checkpoint.pt"]
    with Image.open(tmp_path / "samples" / "000004.png") as sheet:
        assert sheet.size == (2 * 342, 2 * 342)  # 10 of 32, 11 gaps of 2, twice as large
        assert len(set(sheet.tobytes())) > 2  # not blank

    before = {name: tensor.clone() for name, tensor in weights(recipe).items()}
    recipe.export(tmp_path / "g.onnx")
    assert all(torch.equal(before[name], t) for name, t in weights(recipe).items())
    latents = torch.randn(5, QUICK.latent)
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"latent": latents.numpy()})[0])
    torch.testing.assert_close(found, recipe.finished()(latents), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [32, 64])
def test_the_layers_are_those_of_the_seed(size):
    generator = dcgan.Generator(100, 3, size)
    assert generator(torch.randn(2, 100)).shape == (2, 3, size, size)
    (dense,) = (m for m in generator.modules() if isinstance(m, nn.Linear))
    assert (dense.in_features, dense.out_features) == (100, 256)
    ups = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [up.out_channels for up in ups] == [128, 64, 3]
    downs = [m for m in dcgan.Discriminator(3, size).modules() if isinstance(m, nn.Conv2d)]
    assert [(down.out_channels, down.stride) for down in downs] == [
        (64, (2, 2)),
        (128, (2, 2)),
        (256, (2, 2)),
    ]
    assert dcgan.Discriminator(3, size)(torch.randn(2, 3, size, size)).shape == (2, 1)


def test_the_losses_are_those_of_the_papers(digits):
    """The first step's losses, against log D and log(1 - D) written out."""
    found = {}
    for loss in ("minimax", "non-saturating"):
        settings = replace(QUICK, loss=loss, label_smoothing=0.0, shift=0.0, lr=0.0)
        recipe = dcgan.build(settings, digits)
        found[loss] = recipe.step(torch.Generator().manual_seed(3))
    draw = torch.Generator().manual_seed(3)
    real = digits[torch.randint(len(digits), (4,), generator=draw)]
    twin = dcgan.build(settings, digits)
    fake = twin.generator(torch.randn(4, 100, generator=draw))
    on_real, on_fake = (torch.sigmoid(twin.discriminator(x)) for x in (real, fake))
    d_loss = -(on_real.log() + (1 - on_fake).log()).mean().item()
    assert found["minimax"]["D"] == pytest.approx(d_loss, rel=1e-5)
    assert found["minimax"]["G"] == pytest.approx((1 - on_fake).log().mean().item(), rel=1e-5)
    assert found["non-saturating"]["G"] == pytest.approx(-on_fake.log().mean().item(), rel=1e-5)


def test_shifting_moves_images_and_passes_gradients(digits):
    pictures = digits[:16].clone().requires_grad_()
    moved = losses.shifted(pictures, 0.125, torch.Generator().manual_seed(0))
    padded = functional.pad(pictures, [4] * 4, mode="replicate")
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # [16, 1, 9, 9, 32, 32]
    same = (windows == moved[:, :, None, None]).all(-1).all(-1).flatten(1).any(1)
    assert same.all()
    assert not torch.equal(moved, pictures)
    moved.sum().backward()
    assert pictures.grad.sum() == moved.numel()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_step_and_saves(tmp_path, digits, sign):
    def press(step: int, losses: dict[str, float]) -> None:
        if step == 3:
            _thread.interrupt_main(sign)
            if sign != signal.SIGINT:  # `timeout` sends it twice
                _thread.interrupt_main(sign)

    recipe, twin = dcgan.build(QUICK, digits), dcgan.build(QUICK, digits)
    outcome = trainer.train(recipe, tmp_path, steps=50, seed=0, on_step=press)
    assert outcome.interrupted == sign
    assert 3 <= outcome.step <= 4
    assert (
        trainer.train(twin, tmp_path, steps=outcome.step, seed=0, resume=True).step == outcome.step
    )
    assert all(torch.equal(weights(recipe)[name], t) for name, t in weights(twin).items())


def test_no_run_is_overwritten_or_resumed_by_accident(tmp_path, digits):
    recipe = dcgan.build(QUICK, digits)
    with pytest.raises(ArgumentError, match="--resume"):
        trainer.train(recipe, tmp_path, steps=1, seed=0, resume=True)
    trainer.train(recipe, tmp_path, steps=1, seed=0)
    with pytest.raises(ArgumentError, match="earlier run"):
        trainer.train(recipe, tmp_path, steps=2, seed=0)
    for other in (dcgan.build(replace(QUICK, lr=1e-3), digits), dcgan.build(QUICK, digits[1:])):
        with pytest.raises(trainer.TrainingError, match=r"lr = 0.001|images = "):
            trainer.train(other, tmp_path, steps=2, seed=0, resume=True)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[:1000])
    with pytest.raises(trainer.TrainingError, match="no checkpoint"):
        trainer.train(recipe, tmp_path, steps=2, seed=0, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, digits):
    recipe = dcgan.build(QUICK, digits)
    recipe.images = torch.full_like(digits, float("nan"))
    with pytest.raises(trainer.TrainingError, match="step 1: found nan for the loss 'D'"):
        trainer.train(recipe, tmp_path, steps=2, seed=0)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_settings_that_do_not_fit(digits):
    with pytest.raises(ArgumentError, match="32 or 64"):
        dcgan.build(DcganSettings(size=48), digits)
    with pytest.raises(ArgumentError, match="64 squared"):
        dcgan.build(DcganSettings(size=64), digits)


def test_digits_are_split_for_good_and_enlarged():
    (train, train_classes), (test, test_classes) = images.digits("train"), images.digits("test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.shape[1:] == (1, 32, 32)
    assert (train.min(), train.max()) == (-1, 1)
    assert len(train_classes.unique()) == len(test_classes.unique()) == 10
    together = torch.cat([train, test]).flatten(1)
    assert len(together.unique(dim=0)) == len(together)  # no digit is on both sides


def test_a_folder_of_images(tmp_path):
    (tmp_path / "deeper").mkdir()
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("L", (9, 9), 255).save(tmp_path / "deeper" / "white.JPG")
    (tmp_path / "notes.txt").write_text("not an image")
    white, red = images.folder(tmp_path, 8)
    assert white.shape == (3, 8, 8)
    assert white.min() == 1
    assert red[:, 4, 4].tolist() == [1, -1, -1]
    assert images.folder(tmp_path, 8, channels=1).shape == (2, 1, 8, 8)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ArgumentError, match=r"broken\.png"):
        images.folder(tmp_path, 8)
    for missing in (tmp_path / "none", Path(tmp_path / "notes.txt")):
        with pytest.raises(ArgumentError, match="no folder"):
            images.folder(missing, 8)


def test_grid_places_every_image():
    pictures = torch.arange(6).view(6, 1, 1, 1).expand(6, 3, 2, 2) / 3 - 1
    sheet = images.grid(pictures, columns=4, scale=3, gap=1)
    assert sheet.size == (3 * 13, 3 * 7)
    assert sheet.getpixel((3 * 1, 3 * 4)) == (170, 170, 170)  # image 4: 4/3 - 1, second row
    assert sheet.getpixel((3 * 7 + 1, 3 * 4)) == (0, 0, 0)
