"""Image-to-image models on images of every kind, held to eager PyTorch on the same weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fastgan
from fastgan.apply import model, run
from fastgan.errors import ArgumentError
from fastgan.generator import Generator
from fastgan.images.pixels import to_floats
from fastgan.model.signature import Input
from tests import drawing
from tests import image_networks as networks

OPEN = (3, "h", "w")
MASKED = [
    Input("image", "image", ("batch", 3, "h", "w")),
    Input("mask", "mask", ("batch", 1, "h", "w"), range=(0.0, 1.0)),
]
STYLED = [
    Input("content", "image", ("batch", 3, "h", "w")),
    Input("style", "image", ("batch", 3, "sh", "sw")),
]
LABELLED = [
    Input("image", "image", ("batch", 3, "h", "w")),
    Input("label", "label", ("batch", 4), classes=4),
]
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "espcn": (networks.Espcn, {"image": OPEN}),
    "denoiser": (networks.Denoiser, {"image": OPEN}),
    "unet": (networks.UNet, {"image": OPEN}),
    "halver": (networks.Halver, {"image": OPEN}),
    "cropper": (networks.Cropper, {"image": OPEN}),
    "reflector": (networks.Reflector, {"image": OPEN}),
    "grey": (lambda: networks.Denoiser(1), {"image": (1, "h", "w")}),
    "rgba": (lambda: networks.Denoiser(4), {"image": (4, "h", "w")}),
    "fixed": (networks.UNet, {"image": (3, 32, 48)}),
    "fixed-x2": (networks.Espcn, {"image": (3, 24, 32)}),
    "inpainter": (networks.Inpainter, {"inputs": MASKED}),
    "fixed-inpainter": (networks.Inpainter, {"image": (3, 32, 32), "mask": (1, 32, 32)}),
    "labelled": (networks.LabelledTranslator, {"inputs": LABELLED}),
    "stylist": (networks.Stylist, {"inputs": STYLED}),
}
TOLERANCE = 2e-5


class Loaded:
    """Each model once, with the module that it was exported from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], tuple[nn.Module, Generator]] = {}

    def __call__(self, name: str, backend: str = "auto") -> tuple[nn.Module, Generator]:
        if (name, backend) not in self._made:
            make, inputs = MODELS[name]
            module = networks.seeded(make(), seed=len(name))
            path = self._folder / f"{name}.onnx"
            if not path.exists():
                fastgan.export(module, path, verify=False, **inputs)
            generator = fastgan.load(path, device="cpu", backend=backend)
            self._made[name, backend] = module, generator
        return self._made[name, backend]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return Loaded(tmp_path_factory.mktemp("image-models"))


def eager(module: nn.Module, *inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return module(*inputs)


def span(generator: Generator) -> tuple[float, float]:
    port = generator.signature.image
    assert port is not None
    assert port.range is not None
    return port.range


def floats(generator: Generator, *shape: int) -> Tensor:
    low, high = span(generator)
    return torch.rand(shape) * (high - low) + low


def pixels(*shape: int) -> np.ndarray[Any, Any]:
    return drawing.new_numpy().integers(0, 256, shape, dtype=np.uint8)


def as_input(generator: Generator, array: np.ndarray[Any, Any]) -> Tensor:
    """uint8 [H, W, C] as the model's floats [1, C, H, W]."""
    low, high = span(generator)
    planes = torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]
    return planes / 255 * (high - low) + low


def as_uint8(generator: Generator, images: Tensor) -> Tensor:
    """The model's floats as uint8 [n, H, W, C]."""
    low, high = generator.signature.outputs[0].range
    return ((images - low) / (high - low) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def close_uint8(found: Tensor, expected: Tensor) -> bool:
    """Equal but for values that lie halfway, to float rounding."""
    difference = (found.int() - expected.int()).abs()
    return bool(difference.max() <= 1 and (difference > 0).float().mean() < 1e-3)


# Sizes -------------------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 7), (5, 3), (17, 31), (33, 20), (64, 64), (70, 51)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "scale"), [("espcn", 2), ("denoiser", 1)])
def test_open_sizes_run_as_they_are(
    loaded: Loaded, name: str, scale: int, size: tuple[int, int]
) -> None:
    module, generator = loaded(name)
    images = floats(generator, 3, 3, *size)
    result = generator(images)
    assert tuple(result.shape) == (3, 3, scale * size[0], scale * size[1])
    assert (result - eager(module, images)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", ["auto", "ort"])
def test_sizes_are_padded_by_reflection_to_a_multiple(
    loaded: Loaded, size: tuple[int, int], backend: str
) -> None:
    module, generator = loaded("unet", backend)
    images = floats(generator, 2, 3, *size)
    padding = [(0, 0), (0, 0), (0, -size[0] % 8), (0, -size[1] % 8)]
    padded = torch.from_numpy(np.pad(images.numpy(), padding, mode="reflect"))
    expected = eager(module, padded)[:, :, : size[0], : size[1]]
    result = generator(images)
    assert result.shape == images.shape
    assert (result - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (4, 4), (50, 30)])
def test_a_smallest_size_is_found(loaded: Loaded, size: tuple[int, int]) -> None:
    module, generator = loaded("reflector", "ort")
    images = floats(generator, 1, 3, *size)
    padding = [(0, 0), (0, 0), (0, max(0, 4 - size[0])), (0, max(0, 4 - size[1]))]
    padded = torch.from_numpy(np.pad(images.numpy(), padding, mode="reflect"))
    expected = eager(module, padded)[:, :, : size[0], : size[1]]
    assert (generator(images) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 41), (1, 1)])
def test_a_smaller_result_rounds_up(loaded: Loaded, height: int, width: int) -> None:
    module, generator = loaded("halver")
    images = floats(generator, 1, 3, height, width)
    result = generator(images)
    assert tuple(result.shape) == (1, 3, -(-height // 2), -(-width // 2))
    if height % 2 == 0 and width % 2 == 0:
        assert (result - eager(module, images)).abs().max() <= TOLERANCE


def test_a_result_out_of_proportion_comes_as_it_is(loaded: Loaded) -> None:
    module, generator = loaded("cropper")
    images = floats(generator, 2, 3, 21, 34)
    result = generator(images)
    assert tuple(result.shape) == (2, 3, 17, 30)
    assert (result - eager(module, images)).abs().max() <= TOLERANCE
    with pytest.raises(ArgumentError, match="pil"):
        generator(images, format="pil")


def test_a_fixed_size_is_resized_to_and_back(loaded: Loaded) -> None:
    module, generator = loaded("fixed")
    exact = floats(generator, 2, 3, 32, 48)
    assert (generator(exact) - eager(module, exact)).abs().max() <= TOLERANCE
    # A smooth image survives the resizing, so the result is near the one at the model's size.
    small = np.linspace(0, 255, 48)[None, :, None] * np.ones((32, 1, 3))
    large = np.asarray(Image.fromarray(small.astype(np.uint8)).resize((131, 77), Image.BICUBIC))
    result = generator(large, format="uint8")
    assert tuple(result.shape) == (1, 77, 131, 3)
    inside = as_uint8(generator, eager(module, as_input(generator, small.astype(np.uint8))))
    wide = Image.fromarray(inside[0].numpy()).resize((131, 77), Image.BICUBIC)
    difference = np.abs(np.asarray(wide).astype(int) - result[0].numpy())
    assert np.percentile(difference, 90) <= 4


def test_a_fixed_upscaler_runs_in_windows(loaded: Loaded) -> None:
    """Made smaller first, an image could not come out better than it was."""
    module, generator = loaded("fixed-x2")
    images = floats(generator, 2, 3, 61, 70)
    result = generator(images, tile_pad=4)
    assert (result - eager(module, images)).abs().max() <= TOLERANCE
    resized = generator(images, tile=0)
    assert resized.shape == result.shape
    assert (resized - result).abs().max() > 0.01
    assert tuple(generator(images[:, :, :5, :9]).shape) == (2, 3, 10, 18)


# What goes in ------------------------------------------------------------------------------------


def test_every_form_of_an_image_gives_the_same(loaded: Loaded, tmp_path: Path) -> None:
    module, generator = loaded("espcn")
    array = pixels(13, 18, 3)
    expected = as_uint8(generator, eager(module, as_input(generator, array)))
    Image.fromarray(array).save(tmp_path / "image.png")
    forms: list[Any] = [
        array,
        array[None],
        torch.from_numpy(array),
        Image.fromarray(array),
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
    ]
    for form in forms:
        result = generator(form, format="uint8")
        assert result.shape == expected.shape
        assert close_uint8(result, expected)
    as_float = generator(array)
    assert as_float.dtype == torch.float32
    assert (as_float - eager(module, as_input(generator, array))).abs().max() <= TOLERANCE


def test_a_list_gives_a_list_whatever_the_sizes(loaded: Loaded, tmp_path: Path) -> None:
    _, generator = loaded("unet")
    arrays = [pixels(16, 24, 3), pixels(9, 5, 3), pixels(16, 24, 3), pixels(1, 1, 3)]
    Image.fromarray(arrays[1]).save(tmp_path / "one.png")
    given = [arrays[0], tmp_path / "one.png", Image.fromarray(arrays[2]), arrays[3]]
    results = generator(given, format="uint8")
    assert isinstance(results, list)
    for result, array in zip(results, arrays, strict=True):
        assert torch.equal(result, generator(array, format="uint8")[0])
    pictures = generator(given, format="pil")
    assert [p.size for p in pictures] == [(24, 16), (5, 9), (24, 16), (1, 1)]
    for picture, result in zip(pictures, results, strict=True):
        assert np.array_equal(np.asarray(picture), result.numpy())


def test_pil_out(loaded: Loaded) -> None:
    _, generator = loaded("espcn")
    one = generator(Image.fromarray(pixels(4, 6, 3)), format="pil")
    assert isinstance(one, Image.Image)
    assert (one.mode, one.size) == ("RGB", (12, 8))
    many = generator(pixels(2, 4, 6, 3), format="pil")
    assert [image.size for image in many] == [(12, 8), (12, 8)]


def test_grey_and_colour_are_converted(loaded: Loaded) -> None:
    module, generator = loaded("denoiser")
    grey = pixels(8, 9)
    expected = eager(module, as_input(generator, np.stack([grey] * 3, 2)))
    assert (generator(Image.fromarray(grey)) - expected).abs().max() <= TOLERANCE
    assert (generator(grey) - expected).abs().max() <= TOLERANCE
    module, generator = loaded("grey")
    colour = pixels(8, 9, 3)
    luma = (colour * np.array([0.299, 0.587, 0.114])).sum(2, keepdims=True).astype(np.float32)
    expected = eager(module, as_input(generator, luma))
    result = generator(colour)
    assert tuple(result.shape) == (1, 1, 8, 9)
    assert (result - expected).abs().max() <= TOLERANCE


def test_deep_grey_keeps_its_depth(loaded: Loaded) -> None:
    module, generator = loaded("grey")
    deep = drawing.new_numpy().integers(0, 65536, (12, 10), dtype=np.uint16)
    expected = eager(module, as_input(generator, (deep / 257.0)[:, :, None]))
    for form in (deep, Image.fromarray(deep)):
        assert (generator(form) - expected).abs().max() <= TOLERANCE


def test_alpha(loaded: Loaded) -> None:
    _, generator = loaded("espcn")
    opaque = pixels(10, 12, 3)
    alpha = np.full((10, 12, 1), 77, np.uint8)
    image = np.concatenate([opaque, alpha], 2)
    colours = generator(opaque, format="uint8")
    kept = generator(image, format="uint8")
    assert torch.equal(kept[..., :3], colours)
    assert (kept[..., 3] == 77).all()
    assert torch.equal(generator(image, format="uint8", alpha="ignore"), colours)
    through = generator(image, format="uint8", alpha="model")
    assert torch.equal(through[..., :3], colours)
    plane = generator(np.repeat(alpha, 3, 2), format="uint8").float().mean(3)
    assert (through[..., 3].float() - plane).abs().max() <= 1
    low, high = generator.signature.outputs[0].range
    as_float = generator(image)
    assert torch.allclose(as_float[:, 3], torch.tensor(77 / 255 * (high - low) + low))
    picture = generator(Image.fromarray(image), format="pil")
    assert picture.mode == "RGBA"
    assert np.array_equal(np.asarray(picture), kept[0].numpy())


def test_a_model_that_takes_alpha_gets_it(loaded: Loaded) -> None:
    module, generator = loaded("rgba")
    image = pixels(6, 7, 4)
    assert (generator(image) - eager(module, as_input(generator, image))).abs().max() <= TOLERANCE
    opaque = np.concatenate([image[..., :3], np.full((6, 7, 1), 255, np.uint8)], 2)
    expected = eager(module, as_input(generator, opaque))
    assert (generator(image[..., :3]) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    "images",
    [
        "no-such-file.png",
        [],
        torch.rand(2, 1, 8, 8),
        torch.rand(8, 8),
        np.zeros((2, 8, 8, 5), np.uint8),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((1, 0, 8, 3), np.uint8),
        object(),
        {"a": 1},
        None,
        [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)],
    ],
)
def test_what_is_no_image_is_refused(loaded: Loaded, images: Any) -> None:
    with pytest.raises(ArgumentError):
        loaded("denoiser")[1](images)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": -1},
        {"tile": 1.5},
        {"tile_pad": True},
        {"batch_size": 0},
        {"alpha": "drop"},
        {"fill": "grey"},
        {"format": "png"},
        {"mask": np.zeros((8, 8), np.uint8)},
        {"style": np.zeros((8, 8, 3), np.uint8)},
        {"strength": 3},
        {"labels": 1},
        {"out": torch.empty(1, 3, 9, 9)},
    ],
)
def test_bad_options(loaded: Loaded, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        loaded("denoiser")[1](np.zeros((8, 8, 3), np.uint8), **options)


def test_out_is_written_into(loaded: Loaded) -> None:
    _, generator = loaded("espcn")
    images = pixels(2, 7, 9, 3)
    out = torch.full((2, 14, 18, 3), 99, dtype=torch.uint8)
    assert generator(images, format="uint8", out=out) is out
    assert torch.equal(out, generator(images, format="uint8"))


# Tiles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tile", "pad"), [(1, 4), (7, 4), (16, 5), (32, 16), (200, 4)])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_tiles_join_without_a_seam(
    loaded: Loaded, tile: int, pad: int, batch_size: int | None
) -> None:
    """ESPCN sees 4 pixels around each, so tiles with 4 more give what the whole image gives."""
    module, generator = loaded("espcn")
    images = floats(generator, 2, 3, 37, 26)
    result = generator(images, tile=tile, tile_pad=pad, batch_size=batch_size)
    assert (result - eager(module, images)).abs().max() <= TOLERANCE
    seam = generator(images, tile=tile, tile_pad=0) - result
    assert tile >= 37 or seam.abs().max() > 1e-3  # the test can tell


def test_tiles_of_a_network_with_strides(loaded: Loaded) -> None:
    """The U-Net sees up to 22 + 8 pixels around each, on a grid of 8."""
    _, generator = loaded("unet")
    images = floats(generator, 1, 3, 131, 109)
    whole = generator(images, tile=0)
    assert (generator(images, tile=24, tile_pad=32) - whole).abs().max() <= TOLERANCE


def test_tiles_of_uint8_and_pil(loaded: Loaded) -> None:
    _, generator = loaded("espcn")
    image = pixels(45, 52, 4)
    whole = generator(image, format="uint8")
    tiled = generator(image, format="uint8", tile=16)
    assert close_uint8(tiled, whole)
    picture = generator(image, format="pil", tile=16)
    assert np.array_equal(np.asarray(picture), tiled[0].numpy())


def test_tiling_by_itself_is_logged(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, generator = loaded("espcn")
    images = floats(generator, 1, 3, 300, 280)
    with caplog.at_level(logging.INFO, "fastgan"):
        generator(images)
        assert "tiles" not in caplog.text
        monkeypatch.setattr(model, "TILE_ABOVE_BYTES", 1 << 20)
        result = generator(images)
    assert "280 x 300 pixels" in caplog.text
    assert "tiles of 128" in caplog.text
    assert (result - eager(module, images)).abs().max() <= TOLERANCE


def test_progress_counts_windows(loaded: Loaded) -> None:
    _, generator = loaded("espcn")
    seen: list[tuple[int, int]] = []
    images = [pixels(40, 40, 3), pixels(8, 8, 3)]
    generator(images, tile=16, tile_pad=4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 2
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


# Masks, styles, labels ---------------------------------------------------------------------------


def rectangle(height: int, width: int) -> np.ndarray[Any, Any]:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 3 : 2 * width // 3] = 255
    return mask


@pytest.mark.parametrize("fill", ["white", "black"])
@pytest.mark.parametrize("tile", [None, 8])
def test_inpainting_keeps_what_is_known(loaded: Loaded, fill: str, tile: int | None) -> None:
    module, generator = loaded("inpainter")
    image, mask = pixels(31, 40, 3), rectangle(31, 40)
    plane = torch.from_numpy(mask / 255.0).float()[None, None]
    made = eager(module, as_input(generator, image), plane)
    hole = plane[0, 0].bool() if fill == "white" else ~plane[0, 0].bool()
    result = generator(image, mask=mask, fill=fill, tile=tile, tile_pad=8, format="uint8")[0]
    assert torch.equal(result[~hole], torch.from_numpy(image)[~hole])
    assert close_uint8(result[hole], as_uint8(generator, made)[0][hole])
    as_float = generator(image, mask=mask, fill=fill, tile=tile, tile_pad=8)[0]
    known = to_floats(torch.from_numpy(image), 255, span(generator)).permute(2, 0, 1)
    assert torch.equal(as_float[:, ~hole], known[:, ~hole])
    assert (as_float[:, hole] - made[0][:, hole]).abs().max() <= TOLERANCE


def test_the_file_says_what_of_a_mask_is_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "black.onnx"
    ports = [MASKED[0], replace(MASKED[1], fill="black")]
    fastgan.export(networks.seeded(networks.Inpainter(), 3), path, inputs=ports, verify=False)
    generator = fastgan.load(path, device="cpu")
    image, mask = pixels(16, 20, 3), rectangle(16, 20)
    result = generator(image, mask=mask, format="uint8")
    assert torch.equal(result, generator(image, mask=mask, fill="black", format="uint8"))
    assert torch.equal(result[0][torch.from_numpy(mask) == 255], torch.from_numpy(image[mask > 0]))
    assert not torch.equal(result, generator(image, mask=mask, fill="white", format="uint8"))


def test_masks_in_every_form(loaded: Loaded, tmp_path: Path) -> None:
    _, generator = loaded("inpainter")
    images, mask = pixels(2, 16, 20, 3), rectangle(16, 20)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    expected = generator(images, mask=mask, format="uint8")
    forms: list[Any] = [
        mask.astype(bool),
        Image.fromarray(mask),
        tmp_path / "mask.png",
        np.stack([mask, mask])[..., None],
        torch.from_numpy(mask / 255.0).float()[None, None],
        np.repeat(mask[:, :, None], 3, 2),
    ]
    for form in forms:
        assert torch.equal(generator(images, mask=form, format="uint8"), expected)
    listed = generator(list(images), mask=[mask, mask], format="uint8")
    assert torch.equal(torch.stack(listed), expected)
    with pytest.raises(ArgumentError, match="16"):
        generator(images, mask=mask[:8])
    with pytest.raises(ArgumentError, match="mask"):
        generator(images)
    with pytest.raises(ArgumentError, match="3 of them"):
        generator(images, mask=np.stack([mask] * 3)[..., None])


def test_a_fixed_inpainter_keeps_the_full_resolution(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_COMPOSITED_AT_ONCE", 16)
    _, generator = loaded("fixed-inpainter")
    image, mask = pixels(47, 61, 3), rectangle(47, 61)
    result = generator(image, mask=mask, format="uint8")[0]
    known = torch.from_numpy(mask == 0)
    assert torch.equal(result[known], torch.from_numpy(image)[known])
    assert (result[~known] != torch.from_numpy(image)[~known]).float().mean() > 0.5


def test_labels_belong_to_images_not_to_tiles(loaded: Loaded) -> None:
    module, generator = loaded("labelled")
    images = [pixels(24, 20, 3), pixels(9, 9, 3), pixels(24, 20, 3)]
    results = generator(images, labels=[2, 0, 3], tile=8, tile_pad=4)
    for image, label, result in zip(images, (2, 0, 3), results, strict=True):
        one_hot = torch.nn.functional.one_hot(torch.tensor([label]), 4).float()
        expected = eager(module, as_input(generator, image), one_hot)[0]
        assert (result - expected).abs().max() <= TOLERANCE
    both = torch.tensor([[1.0, 0.0, 1.0, 0.0]])  # several attributes at once, by the input's name
    expected = eager(module, as_input(generator, images[1]), both)
    assert (generator(images[1], label=both) - expected).abs().max() <= TOLERANCE


def test_content_and_style(loaded: Loaded) -> None:
    module, generator = loaded("stylist")
    content, style = pixels(21, 30, 3), pixels(40, 17, 3)
    expected = eager(module, as_input(generator, content), as_input(generator, style))
    assert (generator(content, style=style) - expected).abs().max() <= TOLERANCE
    both = generator([content, content], style=[style, content])
    assert (both[0] - expected[0]).abs().max() <= TOLERANCE
    assert (both[1] - both[0]).abs().max() > 1e-3
    with pytest.raises(ArgumentError, match="style"):
        generator(content)
