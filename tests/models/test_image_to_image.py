"""Image-to-image models on images of every size and kind, held to eager PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan import apply as image_to_image
from fastgan.apply import run
from fastgan.errors import ArgumentError
from tests import drawing
from tests.models.image_models import (
    TOLERANCE,
    Loaded,
    as_input,
    as_uint8,
    close_uint8,
    eager,
    floats,
    pixels,
)

# Sizes -----------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("format", ["float32", "uint8"])
def test_a_kind_of_call_is_worked_out_once(
    loaded: Loaded, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Floats that go in as they are; whatever differs from them goes the long way each time."""
    _, generator = loaded("espcn")
    images, more = (floats(generator, 3, 3, 22, 18 + i) for i in range(2))
    expected = generator(images, format=format)
    worked = []

    def apply(*arguments: Any) -> Any:
        worked.append(arguments)
        return run.apply(*arguments)

    monkeypatch.setattr(image_to_image, "apply", apply)
    assert torch.equal(generator(images, format=format), expected)
    again = generator(images.flip(0), format=format)
    assert torch.equal(again, expected.flip(0))
    assert not worked
    out = torch.empty_like(expected)
    assert generator(images, format=format, out=out) is out
    assert torch.equal(out, expected)
    assert torch.equal(generator(images.double(), format=format), expected)
    assert torch.equal(generator(images.numpy(), format=format), expected)
    assert torch.equal(generator(images[0], format=format), expected[:1])
    assert torch.equal(generator(images, format=format, tile=8, tile_pad=8), expected)
    generator(more, format=format)
    with pytest.raises(ArgumentError, match="seed"):
        generator(images, format=format, seed=-1)
    assert len(worked) == 6


@pytest.mark.parametrize("backend", ["auto", "ort"])
def test_images_that_are_not_read_as_they_lie(loaded: Loaded, backend: str) -> None:
    """Also where others of their sizes have gone in as they are."""
    _, generator = loaded("denoiser", backend)
    images = floats(generator, 2, 3, 9, 12)
    generator(images)
    expected = generator(-images)
    assert torch.equal(generator(torch._neg_view(images)), expected)
    assert torch.equal(generator(-images.numpy()[..., ::-1]), generator(-images.flip(3)))
    assert torch.equal(generator((-images.numpy()).astype(">f4")), expected)
    photo = pixels(9, 12, 3)  # OpenCV's is BGR, a scanner's of 16 bits may be big-endian
    assert torch.equal(generator(photo[..., ::-1]), generator(photo[..., ::-1].copy()))
    deep = photo * np.uint16(257)
    assert torch.equal(generator(deep.astype(">u2")), generator(deep))
    for other in (images.to_sparse(), images.to("meta"), images.to_mkldnn()):
        with pytest.raises(ArgumentError, match=r"images: found .* needed a dense tensor"):
            generator(other)


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


# What goes in ----------------------------------------------------------------------------------


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
