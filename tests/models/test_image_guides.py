"""Image-to-image models with a mask, a style or a label beside the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan
from fastgan.apply import run
from fastgan.errors import ArgumentError
from fastgan.images.pixels import to_floats
from tests import image_networks as networks
from tests.models import image_models as models


def rectangle(height: int, width: int) -> np.ndarray[Any, Any]:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 3 : 2 * width // 3] = 255
    return mask


@pytest.mark.parametrize("fill", ["white", "black"])
@pytest.mark.parametrize("tile", [None, 8])
def test_inpainting_keeps_what_is_known(loaded: models.Loaded, fill: str, tile: int | None) -> None:
    module, generator = loaded("inpainter")
    image, mask = models.pixels(31, 40, 3), rectangle(31, 40)
    plane = torch.from_numpy(mask / 255.0).float()[None, None]
    made = models.eager(module, models.as_input(generator, image), plane)
    hole = plane[0, 0].bool() if fill == "white" else ~plane[0, 0].bool()
    result = generator(image, mask=mask, fill=fill, tile=tile, tile_pad=8, format="uint8")[0]
    assert torch.equal(result[~hole], torch.from_numpy(image)[~hole])
    assert models.close_uint8(result[hole], models.as_uint8(generator, made)[0][hole])
    as_float = generator(image, mask=mask, fill=fill, tile=tile, tile_pad=8)[0]
    known = to_floats(torch.from_numpy(image), 255, models.span(generator)).permute(2, 0, 1)
    assert torch.equal(as_float[:, ~hole], known[:, ~hole])
    assert (as_float[:, hole] - made[0][:, hole]).abs().max() <= models.TOLERANCE


def test_the_file_says_what_of_a_mask_is_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "black.onnx"
    ports = [models.MASKED[0], replace(models.MASKED[1], fill="black")]
    fastgan.export(networks.seeded(networks.Inpainter(), 3), path, inputs=ports, verify=False)
    generator = fastgan.load(path, device="cpu")
    image, mask = models.pixels(16, 20, 3), rectangle(16, 20)
    result = generator(image, mask=mask, format="uint8")
    assert torch.equal(result, generator(image, mask=mask, fill="black", format="uint8"))
    assert torch.equal(result[0][torch.from_numpy(mask) == 255], torch.from_numpy(image[mask > 0]))
    assert not torch.equal(result, generator(image, mask=mask, fill="white", format="uint8"))


def test_masks_in_every_form(loaded: models.Loaded, tmp_path: Path) -> None:
    _, generator = loaded("inpainter")
    images, mask = models.pixels(2, 16, 20, 3), rectangle(16, 20)
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
    loaded: models.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_COMPOSITED_AT_ONCE", 16)
    _, generator = loaded("fixed-inpainter")
    image, mask = models.pixels(47, 61, 3), rectangle(47, 61)
    result = generator(image, mask=mask, format="uint8")[0]
    known = torch.from_numpy(mask == 0)
    assert torch.equal(result[known], torch.from_numpy(image)[known])
    assert (result[~known] != torch.from_numpy(image)[~known]).float().mean() > 0.5


def test_labels_belong_to_images_not_to_tiles(loaded: models.Loaded) -> None:
    module, generator = loaded("labelled")
    images = [models.pixels(24, 20, 3), models.pixels(9, 9, 3), models.pixels(24, 20, 3)]
    results = generator(images, labels=[2, 0, 3], tile=8, tile_pad=4)
    for image, label, result in zip(images, (2, 0, 3), results, strict=True):
        one_hot = torch.nn.functional.one_hot(torch.tensor([label]), 4).float()
        expected = models.eager(module, models.as_input(generator, image), one_hot)[0]
        assert (result - expected).abs().max() <= models.TOLERANCE
    both = torch.tensor([[1.0, 0.0, 1.0, 0.0]])  # several attributes at once, by the input's name
    expected = models.eager(module, models.as_input(generator, images[1]), both)
    assert (generator(images[1], label=both) - expected).abs().max() <= models.TOLERANCE


def test_content_and_style(loaded: models.Loaded) -> None:
    module, generator = loaded("stylist")
    content, style = models.pixels(21, 30, 3), models.pixels(40, 17, 3)
    expected = models.eager(
        module, models.as_input(generator, content), models.as_input(generator, style)
    )
    assert (generator(content, style=style) - expected).abs().max() <= models.TOLERANCE
    both = generator([content, content], style=[style, content])
    assert (both[0] - expected[0]).abs().max() <= models.TOLERANCE
    assert (both[1] - both[0]).abs().max() > 1e-3
    with pytest.raises(ArgumentError, match="style"):
        generator(content)
