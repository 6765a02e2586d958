"""Frames on the GPU reach an OpenGL texture there, without a way through the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.realtime import GLTexture
from tests.ring.gl_context import opened

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]

pytest.importorskip("cuda.bindings.runtime", reason="no cuda-bindings")


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """A context on the GPU."""
    made = opened()
    if "NVIDIA" not in made.info["GL_VENDOR"]:
        pytest.skip(f"OpenGL is drawn by {made.info['GL_RENDERER']}, not by the GPU")
    yield made
    made.release()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_texture_holds_each_frame(context: Any, caplog: Any, channels: int) -> None:
    with GLTexture(context, 33, 65, channels) as picture:
        for index in range(50):
            shape = (33, 65, channels)
            frame = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
            picture.write(frame, index)
            seen = np.frombuffer(picture.texture.read(alignment=1), np.uint8).reshape(shape)
            np.testing.assert_array_equal(seen, frame.cpu().numpy())
        assert len(picture._shared or ()) == 2
    assert not caplog.records
