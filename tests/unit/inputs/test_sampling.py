"""Samples by a seed and an index for each, and latents that a caller gives: as each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan import ArgumentError
from fastgan.latents.sampling import Sampling
from fastgan.model.signature import Input

SEEDS, STARTS = [7, 7, 9, 9, 2**64 - 1], [0, 5, 2, 3, 11]


class Everything(nn.Module):
    """A latent, a label and noise, each to be seen in the result; nothing that rounds by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Embedding(3, 16)

    def forward(self, z: Tensor, label: Tensor, noise: Tensor) -> Tensor:
        x = z.reshape(-1, 1, 4, 4) + self.colours(label).reshape(-1, 1, 4, 4)
        return torch.tanh(x + noise)


class Noisy(nn.Module):
    """Noise that the graph draws itself."""

    def forward(self, z: Tensor) -> Tensor:
        x = z.reshape(-1, 1, 4, 4)
        return torch.tanh(x + torch.randn_like(x))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sampling") / "m.onnx"
    ports = [
        Input("z", "latent", ("batch", 16)),
        Input("label", "label", ("batch",), "int64", classes=3),
        Input("noise", "noise", ("batch", 1, 4, 4)),
    ]
    fastgan.export(Everything().eval(), path, inputs=ports)
    return path


def alone(g: fastgan.Generator, **options: Any) -> Tensor:
    pairs = zip(SEEDS, STARTS, strict=True)
    return torch.cat([g.generate(1, seed=seed, start=start, **options) for seed, start in pairs])


@pytest.mark.parametrize("backend", ["torch", "ort", "triton"])
@pytest.mark.parametrize("options", [{}, {"truncation": 0.5}, {"format": "uint8"}], ids=str)
def test_a_seed_and_an_index_for_each(everything, monkeypatch, backend, options) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    g = fastgan.load(everything, backend=backend, device="cpu")
    expected = alone(g, **options)
    found = g.generate(5, seed=SEEDS, start=STARTS, **options)
    assert torch.equal(found, expected)
    parts = g.generate(5, seed=torch.tensor([7, 7, 9, 9, 7]), start=STARTS, batch_size=2, **options)
    assert torch.equal(parts[:4], expected[:4])


def test_an_index_for_each_of_one_seed(everything) -> None:
    g = fastgan.load(everything, device="cpu")
    whole = g.generate(6, seed=3)
    order = [4, 0, 1, 1, 5]
    assert torch.equal(g.generate(5, seed=3, start=order), whole[order])
    assert torch.equal(g.latents(5, seed=3, start=order), g.latents(6, seed=3)[order])
    numpy = g.latents(6, seed=3, rng="numpy")
    assert torch.equal(g.latents(5, seed=3, start=order, rng="numpy"), numpy[order])


@pytest.mark.parametrize("frozen", [False, True], ids=["open", "frozen"])
def test_noise_in_the_graph_follows(frozen: bool, tmp_path: Path) -> None:
    axes = None if frozen else {"z": {0: "batch"}}
    torch.onnx.export(
        Noisy(), (torch.randn(2, 16),), tmp_path / "m.onnx", input_names=["z"],
        dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    g = fastgan.load(tmp_path / "m.onnx", device="cpu", backend="torch")
    expected = alone(g)
    assert torch.equal(g.generate(5, seed=SEEDS, start=STARTS), expected)
    assert torch.equal(g.generate(5, seed=SEEDS, start=STARTS, batch_size=3), expected)


def test_a_field_follows(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh())
    ports = [Input("z", "latent", ("batch", 3, "h", "w"))]
    fastgan.export(module.eval(), tmp_path / "field.onnx", inputs=ports)
    g = fastgan.load(tmp_path / "field.onnx", device="cpu")
    found = g.generate(5, seed=SEEDS, start=STARTS, size=(6, 4))
    assert torch.allclose(found, alone(g, size=(6, 4)), atol=1e-6)


def test_samples_of_other_numbers_are_refused(everything) -> None:
    g = fastgan.load(everything, device="cpu")
    for name, value, says in (
        ("seed", [1, 2], "2 seeds; needed one for each of 3"),
        ("start", [1, 2, 3, 4], "4 indices; needed one for each of 3"),
        ("start", [], "0 indices; needed one for each of 3"),
        ("start", [0, -1, 2], "start: found -1"),
        ("start", -1, "start: found -1"),
        ("seed", [0, 1, 2**64], "seed: found 18446744073709551616"),
        ("start", [0.5, 1, 2], "start: found 0.5"),
        ("start", "012", "start: found '012'"),
    ):
        for call in (g.generate, g.latents):
            with pytest.raises(ArgumentError, match=says):
                call(3, **{name: value})


def test_samples_that_follow_each_other_are_drawn_at_once(monkeypatch) -> None:
    from fastgan import latents

    drawn = []
    sample = latents.sample
    monkeypatch.setattr(latents, "sample", lambda *a, **k: drawn.append(a[1]) or sample(*a, **k))
    found = Sampling((1, 1, 1, 2, 2), (4, 5, 6, 7, 9)).draw("normal", 5, (3,))
    assert drawn == [3, 1, 1]
    assert torch.equal(found[:3], sample("normal", 3, (3,), seed=1, start=4))


# Latents given ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "ort", "triton"])
def test_latents_instead_of_a_seed(everything, monkeypatch, backend) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    g = fastgan.load(everything, backend=backend, device="cpu")
    z = g.latents(4, seed=8)
    options = {"labels": [0, 1, 2, 0], "noise": False}
    expected = g.generate(4, seed=8, **options)
    assert torch.equal(g.generate(4, latents=z, **options), expected)
    assert torch.equal(g.generate(4, latents=z.numpy(), batch_size=3, **options), expected)
    as_bytes = g.generate(4, latents=z.tolist(), format="uint8", **options)
    assert torch.equal(as_bytes, g.generate(4, seed=8, format="uint8", **options))


def test_latents_beside_what_they_stand_for(everything, tmp_path) -> None:
    g = fastgan.load(everything, device="cpu")
    z = g.latents(2)
    for name, value in (("seed", 1), ("start", [0, 1]), ("truncation", 0.5), ("z", z)):
        with pytest.raises(ArgumentError, match=f"{name}: found latents beside it"):
            g.generate(2, latents=z, **{name: value})
    with pytest.raises(ArgumentError, match=r"shape \(2, 16\); needed shape \[16\], or \[3, 16\]"):
        g.generate(3, latents=z)
    fastgan.export(
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh()),
        tmp_path / "image.onnx",
        inputs=[Input("image", "image", ("batch", 3, "h", "w"))],
    )
    with pytest.raises(ArgumentError, match="a model without a latent input"):
        fastgan.load(tmp_path / "image.onnx", device="cpu").generate(2, latents=z)


@pytest.mark.parametrize("size", [1, 2, 5, 9, None])
def test_batches_are_the_images_piece_by_piece(everything: Path, size: int | None) -> None:
    g = fastgan.load(everything, device="cpu", backend="torch")
    for options in (
        {"seed": 3, "start": 40},
        {"seed": SEEDS, "start": STARTS},
        {"seed": SEEDS, "labels": [0, 1, 2, 2, 1]},
        {"seed": 4, "labels": 1, "truncation": 0.5, "format": "uint8"},
    ):
        pieces = list(g.batches(5, batch_size=size, **options))
        assert torch.equal(torch.cat(pieces), g.generate(5, **options))
        if size is not None:
            assert [len(piece) for piece in pieces[:-1]] == [size] * (len(pieces) - 1)
            assert len(pieces) == -(-5 // size)


def test_batches_are_made_one_at_a_time_and_checked_at_once(everything: Path) -> None:
    g = fastgan.load(everything, device="cpu", backend="torch")
    endless = g.batches(10**12, batch_size=2, seed=1)
    assert torch.equal(next(endless), g.generate(2, seed=1))
    assert torch.equal(next(endless), g.generate(2, seed=1, start=2))
    for wrong in ({"seed": [1, 2]}, {"start": -1}, {"labels": [0] * 4}, {"batch_size": 0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            g.batches(5, **wrong)
