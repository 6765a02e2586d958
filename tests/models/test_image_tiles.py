"""Image-to-image models in tiles: no seam, and the same images."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from fastgan.apply import model
from tests.models.image_models import TOLERANCE, Loaded, close_uint8, eager, floats, pixels


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
        generator(images[..., :272])  # of another size: what a size needs is worked out once
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
