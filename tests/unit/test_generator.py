from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

import fastgan
from fastgan import ArgumentError, BackendError
from fastgan.measure.subject import session_of
from fastgan.model.signature import Input
from tests import networks
from tests.unit.models import graph_model, value


@pytest.fixture(scope="module")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    fastgan.export(networks.wgan_style(seed=3), path, latent=32, range=(0.0, 1.0))
    return path


@pytest.fixture(scope="module", params=["torch", "ort"])
def small(request: pytest.FixtureRequest, small_path: Path) -> fastgan.Generator:
    return fastgan.load(small_path, backend=request.param, device="cpu")


def own(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What fastgan itself has logged."""
    return [record for record in caplog.records if record.name == "fastgan"]


class Conditional(nn.Module):
    """A label picks the colour, a latent the brightness: easy to check by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Embedding(3, 12)

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.colours(label).reshape(-1, 3, 2, 2) + z[:, :1, None, None])


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> fastgan.Generator:
    path = tmp_path_factory.mktemp("conditional") / "conditional.onnx"
    module = Conditional().eval()
    fastgan.export(module, path, latent=4, labels=3, class_names=("red", "green", "blue"))
    return fastgan.load(path, device="cpu")


def test_a_sample_is_the_same_at_any_n_start_and_batch(small: fastgan.Generator) -> None:
    everything = small.generate(41, seed=7)
    assert torch.allclose(small.generate(1, seed=7, start=40), everything[40:], atol=2e-6)
    assert torch.allclose(small.generate(41, seed=7, batch_size=5), everything, atol=2e-6)
    latents = small.latents(41, seed=7)
    assert torch.equal(small.latents(1, seed=7, start=40), latents[40:])


def test_one_seed_per_image(small: fastgan.Generator) -> None:
    images = small.generate(3, seed=[5, 9, 5])
    assert torch.allclose(images[0], images[2], atol=2e-6)
    assert torch.allclose(images[1], small.generate(1, seed=9)[0], atol=2e-6)


def test_numpy_latents_are_stylegans(small: fastgan.Generator) -> None:
    rows = [np.random.RandomState(seed).randn(1, 32)[0] for seed in (6, 7)]
    expected = torch.from_numpy(np.stack(rows)).float()
    assert torch.equal(small.latents(2, seed=6, rng="numpy"), expected)


def test_out_is_written_and_returned(small: fastgan.Generator) -> None:
    out = torch.full((5, 1, 16, 16), torch.nan)
    result = small.generate(5, out=out)
    assert result.data_ptr() == out.data_ptr()
    assert torch.equal(out, small.generate(5))


def test_uint8_uses_the_models_range(small: fastgan.Generator) -> None:
    images, floats = small.generate(4, format="uint8"), small.generate(4)
    assert images.dtype == torch.uint8
    assert torch.equal(images, (floats * 255).round().to(torch.uint8).permute(0, 2, 3, 1))


def test_pillow_images_are_the_pixels(small: fastgan.Generator) -> None:
    pictures = small.generate(3, seed=7, start=2, format="pil")
    pixels = small.generate(3, seed=7, start=2, format="uint8").numpy()
    assert [(each.mode, each.size) for each in pictures] == [("L", (16, 16))] * 3
    assert np.array_equal(np.stack(pictures), pixels[..., 0])
    pieces = [each for piece in small.batches(3, batch_size=2, format="pil") for each in piece]
    assert np.array_equal(np.stack(pieces), small.generate(3, format="uint8").numpy()[..., 0])


def test_pillow_images_are_of_pictures_and_nowhere_else(small: fastgan.Generator) -> None:
    with pytest.raises(ArgumentError, match="out"):
        small.generate(3, format="pil", out=torch.empty(3, 16, 16, 1, dtype=torch.uint8))
    with pytest.raises(ArgumentError, match="no picture"):
        fastgan.load("vae-digits-encoder", device="cpu").generate(1, format="pil")


def test_what_has_passed_excuses_nothing_else(small: fastgan.Generator) -> None:
    z = small.latents(3, seed=5)
    name = small.signature.inputs[0].name
    expected = small.run({name: z})
    assert all(torch.equal(t, expected[key]) for key, t in small.run({name: z}).items())
    trained = z.clone().requires_grad_()
    for other in (z.double(), z.numpy(), z.T.contiguous().T, trained, z.tolist()):
        made = small.run({name: other})
        assert all(torch.allclose(made[key], t, atol=2e-6) for key, t in expected.items())
        assert not any(t.requires_grad for t in made.values())
    for wrong in (z[:, :-1], z.to_sparse(), z.to("meta"), z.to(torch.complex64), z[:0]):
        with pytest.raises(ArgumentError):
            small.run({name: wrong})
    with pytest.raises(ArgumentError, match="unknown name"):
        small.run({name: z, "other": z})


def test_run_takes_arrays_by_name(small: fastgan.Generator) -> None:
    name, output = small.signature.inputs[0].name, small.signature.outputs[0].name
    latents = small.latents(2, seed=3)
    result = small.run({name: latents.numpy()})[output]
    assert torch.allclose(result, small.generate(2, seed=3), atol=2e-6)


def test_a_kind_of_run_is_worked_out_once(
    small: fastgan.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run of tensors alike goes to what runs them; any others are looked at."""
    name, output = small.signature.inputs[0].name, small.signature.outputs[0].name
    latents, session = small.latents(5, seed=3), session_of(small)
    expected, outputs, looked = small.run({name: latents})[output], session.outputs, []

    def look(inputs: dict[str, torch.Tensor], rows: int | None) -> dict[str, torch.Tensor]:
        looked.append(rows)
        return outputs(inputs, rows)

    monkeypatch.setattr(session, "outputs", look)
    for given in (latents, latents.clone(), latents.T.contiguous().T, latents[::1]):
        assert torch.equal(small.run({name: given})[output], expected)
    plan = small.plan(1)
    native = plan is not None and all("native" in step.kernel for step in plan.steps)
    if plan is not None:
        assert len(looked) == (0 if native else 4)
    native = not looked
    for given in (latents[:2], latents.double(), latents.numpy()):
        close = small.run({name: given})[output]
        assert torch.allclose(close, expected[: len(given)], atol=2e-6)
    assert len(looked) == (3 if native else 7)
    assert torch.equal(small.run({name: torch._neg_view(-latents)})[output], expected)
    few = latents.to(torch.float8_e4m3fn)
    assert torch.equal(small.run({name: few})[output], small.run({name: few.float()})[output])
    with pytest.raises(ArgumentError, match=f"no {name!r}"):
        small.run({})
    with pytest.raises(ArgumentError, match="shape"):
        small.run({name: latents[:, 1:]})
    low = fastgan.load(small.path, device="cpu", precision="bf16", backend="torch")
    for _ in range(2):
        made = low.run({name: torch.full_like(latents, torch.nan)})[output]
        assert made.isnan().all()


def test_results_are_dlpack_ready(small: fastgan.Generator) -> None:
    assert np.from_dlpack(small.generate(2)).shape == (2, 1, 16, 16)


def test_labels_by_index_name_and_list(conditional: fastgan.Generator) -> None:
    by_index = conditional.generate(2, labels=1)
    assert torch.equal(by_index, conditional.generate(2, labels="green"))
    assert torch.equal(by_index, conditional.generate(2, labels=[1, "green"]))
    mixed = conditional.generate(2, labels=[1, 2])
    assert torch.equal(mixed[0], by_index[0])
    assert not torch.equal(mixed[1], by_index[1])


def test_random_labels_come_from_the_seed(conditional: fastgan.Generator) -> None:
    images = conditional.generate(30, seed=4)
    assert torch.equal(images, conditional.generate(30, seed=4, labels="random"))
    assert torch.equal(images[20:], conditional.generate(10, seed=4, start=20))


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"n": 0}, "n"),
        ({"n": -3}, "n"),
        ({"n": 2.0}, "n"),
        ({"n": True}, "n"),
        ({"n": 2, "batch_size": 0}, "batch_size"),
        ({"n": 2, "format": "png"}, "format"),
        ({"n": 2, "labels": 1}, "labels"),
        ({"n": 2, "out": torch.empty(3, 1, 16, 16)}, "out"),
        ({"n": 2, "out": torch.empty(2, 1, 16, 16, dtype=torch.float64)}, "out"),
        ({"n": 2, "out": torch.empty(2, 1, 16, 16, device="meta")}, "out"),
        ({"n": 2, "out": np.empty((2, 1, 16, 16), np.float32)}, "out"),
        ({"n": 2, "seed": [1, 2, 3]}, "seed"),
        ({"n": 2, "seed": -1}, "seed"),
        ({"n": 2, "start": -1}, "start"),
        ({"n": 2, "truncation": 0.0}, "truncation"),
        ({"n": 2, "rng": "xorshift"}, "rng"),
    ],
)
def test_bad_arguments(small: fastgan.Generator, arguments: dict[str, object], where: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        small.generate(**arguments)  # type: ignore[arg-type]
    assert where in caught.value.where


@pytest.mark.parametrize("labels", [3, -1, "mauve", [0], [0, 1, 2], 1.5, True])
def test_bad_labels(conditional: fastgan.Generator, labels: object) -> None:
    with pytest.raises(ArgumentError) as caught:
        conditional.generate(2, labels=labels)  # type: ignore[arg-type]
    assert caught.value.where == "labels"


def test_a_generator_of_images_says_so(small: fastgan.Generator) -> None:
    with pytest.raises(ArgumentError, match="takes no image"):
        small(torch.zeros(1, 3, 8, 8))


class Brighten(nn.Module):
    """An image-to-image model whose result is easy to say."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=True)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            self.conv.bias.fill_(0.25)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(image)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_images_to_images(tmp_path: Path, backend: str) -> None:
    fastgan.export(Brighten().eval(), tmp_path / "b.onnx", image=(3, 8, 8), range=(-1.0, 1.0))
    generator = fastgan.load(tmp_path / "b.onnx", backend=backend, device="cpu")
    images = torch.rand(5, 3, 8, 8) - 0.5
    assert torch.allclose(generator(images), images + 0.25, atol=1e-6)
    assert generator(images[0]).shape == (1, 3, 8, 8)
    pixels = torch.randint(0, 200, (2, 8, 8, 3), dtype=torch.uint8)
    expected = (pixels.float() + 0.25 * 127.5).round().to(torch.uint8)
    assert torch.equal(generator(pixels, format="uint8"), expected)
    with pytest.raises(ArgumentError, match="images"):
        generator(torch.rand(2, 1, 8, 8))
    with pytest.raises(ArgumentError, match="g\\(images\\)"):
        generator.generate(2)


class Overflow(nn.Module):
    """Activations of 1e6: infinite in fp16, fine in fp32 and bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 12), nn.ConvTranspose2d(3, 3, 2, 2)
        with torch.no_grad():
            self.first.weight.fill_(1e6)
            self.second.weight.normal_(0, 1e-6)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.second(self.first(z).reshape(-1, 3, 2, 2)))


def test_nan_guard_redoes_in_fp32(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = Overflow().eval()
    fastgan.export(module, tmp_path / "o.onnx", latent=4, verify=False)
    generator = fastgan.load(tmp_path / "o.onnx", device="cpu", backend="triton", precision="fp16")
    with caplog.at_level(logging.WARNING, "fastgan"):
        images = generator.generate(3)
    with torch.inference_mode():
        expected = module(generator.latents(3))
    assert images.isfinite().all()
    assert torch.allclose(images, expected, atol=2e-5)
    assert len(own(caplog)) == 1
    assert "NaN or Inf in fp16" in caplog.text


def test_fp32_passes_nan_on(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 2))).eval()
    with torch.no_grad():
        module[0].weight[0, 0] = torch.nan
    fastgan.export(module, tmp_path / "n.onnx", latent=4, range=(-1.0, 1.0), verify=False)
    images = fastgan.load(tmp_path / "n.onnx", device="cpu").generate(2)
    assert images.isnan().sum() == 2


class Contrast(nn.Module):
    """Samples that depend on each other, two by two."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z - z.flip(0)).reshape(2, 1, 4, 4)


def test_samples_that_meet_keep_their_batch(tmp_path: Path) -> None:
    path = tmp_path / "contrast.onnx"
    torch.onnx.export(Contrast().eval(), (torch.randn(2, 16),), path, dynamo=False)
    generator = fastgan.load(path, device="cpu")
    assert generator.signature.frozen_batch == 2
    with torch.inference_mode():
        expected = [Contrast()(generator.latents(2, seed=2, start=i)) for i in (0, 2)]
    assert torch.allclose(generator.generate(4, seed=2), torch.cat(expected), atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_frozen_batch(backend: str, tmp_path: Path) -> None:
    module = networks.keras_style(seed=1)
    path = tmp_path / "frozen.onnx"
    torch.onnx.export(module, (torch.randn(4, 100),), path, dynamo=False)
    generator = fastgan.load(path, device="cpu", backend=backend)
    # A plan is made for any batch; ONNX Runtime runs the file in pieces.
    assert generator.signature.frozen_batch == (None if backend == "torch" else 4)
    images = generator.generate(6, seed=2)
    with torch.inference_mode():
        expected = module(generator.latents(6, seed=2))
    assert images.shape == expected.shape
    assert torch.allclose(images, expected, atol=2e-5)


# Choosing a backend ----------------------------------------------------------------------------


class Rare(nn.Module):
    """Something that no plan covers, so that ONNX Runtime has to take it."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.nonzero(z).float().sum() + z.reshape(-1, 1, 2, 2)


@pytest.fixture(scope="module")
def uncovered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uncovered") / "uncovered.onnx"
    fastgan.export(Rare().eval(), path, latent=4, range=(-1.0, 1.0), verify=False)
    return path


def test_fallback_is_logged_with_its_reason(
    uncovered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fastgan"):
        generator = fastgan.load(uncovered, device="cpu")
    assert generator.backend == "ort"
    assert len(own(caplog)) == 1
    assert "NonZero" in caplog.text
    assert any("NonZero" in str(refusal) for refusal in generator.refusals)
    assert generator.generate(2).shape == (2, 1, 2, 2)


def test_strict_raises_instead_of_falling_back(uncovered: Path) -> None:
    with pytest.raises(BackendError, match="NonZero"):
        fastgan.load(uncovered, device="cpu", strict=True)


def test_no_fallback_no_warning(small_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fastgan"):
        generator = fastgan.load(small_path, device="cpu", strict=True)
    assert generator.backend == "torch"
    assert not own(caplog)
    assert [refusal.backend for refusal in generator.refusals] == ["triton"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"device": "tpu"}, ArgumentError),
        ({"precision": "fp4"}, ArgumentError),
        ({"backend": "tensorrt"}, ArgumentError),
        ({"backend": "ort", "precision": "bf16"}, BackendError),
        ({"backend": "torch", "precision": "fp16", "device": "cpu"}, BackendError),
    ],
)
def test_bad_load_options(
    small_path: Path, options: dict[str, str], error: type[fastgan.FastganError]
) -> None:
    with pytest.raises(error):
        fastgan.load(small_path, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(small_path: Path) -> None:
    with pytest.raises(BackendError, match="no GPU"):
        fastgan.load(small_path, device="cuda")


def test_load_from_bytes_equals_load_from_a_path(small_path: Path) -> None:
    from_bytes = fastgan.load(small_path.read_bytes(), device="cpu")
    assert torch.equal(from_bytes.generate(2), fastgan.load(small_path, device="cpu").generate(2))


def test_a_signature_given_overrides_the_files(small_path: Path) -> None:
    name = fastgan.load(small_path, device="cpu").signature.inputs[0].name
    stated = {"inputs": [{"name": name, "kind": "latent", "distribution": "hypersphere"}]}
    generator = fastgan.load(small_path, device="cpu", signature=stated)
    assert torch.allclose(generator.latents(5).norm(dim=1), torch.ones(5), atol=1e-5)
    # What is not stated stays: the range of the output is still the file's.
    assert generator.signature.outputs[0].range == (0.0, 1.0)


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [{"name": "nobody", "kind": "latent"}]},
        {"inputs": [{"name": "latent", "kind": "melody"}]},
        {"inputs": {1, 2}},
        {"outputs": [{"name": "output", "kind": "image", "range": [1, 0]}]},
    ],
)
def test_bad_signatures(small_path: Path, document: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match="signature"):
        fastgan.load(small_path, device="cpu", signature=document)


def test_isolated_loading(small_path: Path) -> None:
    generator = fastgan.load(small_path, device="cpu", isolate=True)
    assert generator.generate(2).shape == (2, 1, 16, 16)
    with pytest.raises(fastgan.ModelFileError):
        fastgan.load(small_path.read_bytes()[:500], device="cpu", isolate=True)


class Field(nn.Module):
    """A latent field, 3 pixels for each place and 2 more."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        large = nn.functional.interpolate(z, scale_factor=3.0, mode="nearest")
        return torch.tanh(nn.functional.pad(large, [1] * 4))


def test_a_field_makes_images_of_any_size(tmp_path: Path) -> None:
    port = Input("z", "latent", ("batch", 3, "height", "width"), distribution="normal")
    fastgan.export(Field(), tmp_path / "field.onnx", inputs=[port])
    for backend in ("torch", "ort"):
        g = fastgan.load(tmp_path / "field.onnx", backend=backend, device="cpu")
        assert g.generate(2).shape == (2, 3, 5, 5)
        whole = g.generate(5, seed=3, size=(14, 8))
        assert whole.shape == (5, 3, 14, 8)
        assert torch.equal(g.generate(1, seed=3, start=4, size=(14, 8)), whole[4:])
        assert torch.equal(g.generate(5, seed=3, size=(14, 8), batch_size=2), whole)
        assert g.generate(1, size=(14, 8), format="uint8").shape == (1, 14, 8, 3)
        with pytest.raises(ArgumentError, match=r"such as 14 for that 13: 3 pixels .* and 2"):
            g.generate(1, size=(13, 8))
        with g.stream(seed=3, frames=2, format="float32", size=(14, 8), policy="every") as stream:
            assert [tuple(frame.images.shape) for frame in stream] == [(1, 3, 14, 8)] * 2
        for wrong in ((0, 8), (8,), 8, (5.0, 5)):
            with pytest.raises(ArgumentError, match=r"in pixels|such as"):
                g.generate(1, size=wrong)  # type: ignore[arg-type]


def test_a_size_for_a_model_of_one(small: fastgan.Generator) -> None:
    with pytest.raises(ArgumentError, match="one size"):
        small.generate(1, size=(32, 32))


# Noise inside the graph --------------------------------------------------------------------------


class Noisy(nn.Module):
    """Noise that the graph draws for each sample, added to what comes from the latent."""

    def __init__(self, like: bool) -> None:
        super().__init__()
        self.like = like

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = z.reshape(-1, 1, 4, 4)
        noise = torch.randn_like(x) if self.like else torch.randn(z.shape[0], 1, 4, 4)
        return torch.tanh(x + noise)


@pytest.mark.parametrize("like", [False, True], ids=["of a shape", "like"])
@pytest.mark.parametrize("frozen", [False, True], ids=["open", "frozen"])
def test_noise_in_the_graph_is_a_samples_own(frozen: bool, like: bool, tmp_path: Path) -> None:
    path = tmp_path / "noisy.onnx"
    axes = None if frozen else {"z": {0: "batch"}}
    torch.onnx.export(
        Noisy(like), (torch.randn(1, 16),), path, input_names=["z"], dynamic_axes=axes, dynamo=False
    )
    generator = fastgan.load(path, device="cpu", backend="torch")
    everything = generator.generate(7, seed=3)
    assert torch.allclose(generator.generate(7, seed=3, batch_size=2), everything, atol=1e-6)
    assert torch.allclose(generator.generate(1, seed=3, start=5)[0], everything[5], atol=1e-6)
    seeds = generator.generate(3, seed=[9, 3, 3], start=2)
    assert torch.allclose(seeds[1:], everything[[2, 2]], atol=1e-6)
    assert not torch.allclose(generator.generate(7, seed=4), everything, atol=1e-2)
    without = torch.tanh(generator.latents(7, seed=3)).reshape(-1, 1, 4, 4)
    assert not torch.allclose(everything, without, atol=1e-2)
    assert torch.allclose(generator.generate(7, seed=3, noise=False), without, atol=1e-6)


DRAWS = {
    "one row": (("RandomNormal", [], {"shape": [1, 4]}),),
    "rows of another axis": (("RandomUniform", [], {"shape": [4, 1]}),),
    "like one row": (("RandomNormalLike", ["row"], {}),),
    "samples side by side": (
        ("Reshape", ["z", "flat"], {}),
        ("RandomNormalLike", ["0"], {}),
        ("Reshape", ["1", "rows"], {}),
    ),
    "rows in blocks": (
        ("Reshape", ["z", "blocks"], {}),
        ("RandomUniformLike", ["0"], {}),
        ("Reshape", ["1", "rows"], {}),
    ),
}

SHAPES = {"flat": [1, -1, 4], "rows": [-1, 4, 4], "blocks": [-1, 2, 4]}


@pytest.mark.parametrize("draws", DRAWS.values(), ids=list(DRAWS))
def test_noise_for_all_does_not_depend_on_the_batch(draws: tuple[Any, ...]) -> None:
    """Sample i is itself alone and among others; or the file says that its samples meet."""
    weights = {
        "row": np.zeros((1, 4), np.float32),
        **{name: np.array(shape) for name, shape in SHAPES.items()},
    }
    nodes = [
        helper.make_node(op, inputs, [str(i)], **given)
        for i, (op, inputs, given) in enumerate(draws)
    ]
    last = str(len(draws) - 1)
    nodes.append(helper.make_node("Reshape", ["z", "rows"], ["p"]))
    nodes.append(helper.make_node("Add", ["p", last], ["y"]))
    data = graph_model(nodes, [value("z", ["n", 16])], weights=weights, opset=15)
    generator = fastgan.load(data, device="cpu", backend="torch")
    everything = generator.generate(5, seed=3)
    if not generator.signature.made.apart:
        assert torch.equal(generator.generate(5, seed=3), everything)
        return
    alone = torch.cat([generator.generate(1, seed=3, start=i) for i in range(5)])
    torch.testing.assert_close(alone, everything, atol=1e-6, rtol=0)
    torch.testing.assert_close(generator.generate(5, seed=3, batch_size=4), everything)
    row = generator.prepare(1)
    torch.testing.assert_close(row(seed=3, start=4), everything[4:], atol=1e-6, rtol=0)


def test_noise_of_a_runtime_is_no_seeds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "noisy.onnx"
    torch.onnx.export(Noisy(True), (torch.randn(1, 16),), path, input_names=["z"], dynamo=False)
    generator = fastgan.load(path, device="cpu", backend="ort")
    assert "no seed gives again" in caplog.text
    with pytest.raises(ArgumentError, match="draws noise, on ort"):
        generator.generate(1, noise=False)


def test_noise_inputs_can_be_left_out(tmp_path: Path) -> None:
    class Noised(nn.Module):
        def forward(self, z: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return torch.tanh(z.reshape(-1, 1, 4, 4) + noise)

    ports = [Input("z", "latent", ("batch", 16)), Input("noise", "noise", ("batch", 1, 4, 4))]
    fastgan.export(Noised(), tmp_path / "noised.onnx", inputs=ports)
    for backend in ("torch", "ort"):
        g = fastgan.load(tmp_path / "noised.onnx", device="cpu", backend=backend)
        without = torch.tanh(g.latents(3, seed=1)).reshape(-1, 1, 4, 4)
        assert torch.allclose(g.generate(3, seed=1, noise=False), without, atol=1e-6)
        assert not torch.allclose(g.generate(3, seed=1), without, atol=1e-2)
