"""The OpenGL texture shows the frames written to it, here in software (EGL, llvmpipe)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastgan
from fastgan import ArgumentError
from fastgan.realtime.gl import GLTexture

moderngl = pytest.importorskip("moderngl", reason="moderngl is not installed")
rng = np.random.default_rng()


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    try:
        made = moderngl.create_context(standalone=True, backend="egl")
    except Exception as error:
        pytest.skip(f"no OpenGL without a window: {error} (apt install libegl1 libgl1-mesa-dri)")
    yield made
    made.release()


def shown(context: Any, picture: GLTexture, height: int, width: int) -> np.ndarray:
    """What a window that the texture fills shows, from its top: uint8 [H, W, 4]."""
    program = context.program(
        vertex_shader="""#version 330
        out vec2 uv;
        void main() {
            vec2 at = vec2(gl_VertexID & 1, gl_VertexID >> 1);
            uv = vec2(at.x, 1.0 - at.y);  // v grows downwards
            gl_Position = vec4(2.0 * at - 1.0, 0.0, 1.0);
        }""",
        fragment_shader="""#version 330
        uniform sampler2D picture; in vec2 uv; out vec4 colour;
        void main() { colour = texture(picture, uv); }""",
    )
    window = context.simple_framebuffer((width, height), components=4)
    window.use()
    picture.texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
    picture.texture.use(0)
    context.vertex_array(program, []).render(moderngl.TRIANGLE_STRIP, vertices=4)
    pixels = np.frombuffer(window.read(components=4, alignment=1), np.uint8)
    window.release()
    return pixels.reshape(height, width, 4)[::-1]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_it_shows_each_frame(context: Any, channels: int) -> None:
    height, width = int(rng.integers(1, 70)), int(rng.integers(1, 70))
    with GLTexture(context, height, width, channels) as picture:
        for index in range(5):
            frame = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
            picture.write(frame, index)
            seen = shown(context, picture, height, width)
            seen = seen[..., : max(3, channels)]
            np.testing.assert_array_equal(seen, np.broadcast_to(frame, seen.shape))
            assert picture.index == index


def test_a_stream_writes_to_it(context: Any) -> None:
    generator = fastgan.load("dcgan-digits")
    with (
        generator.stream(seed=1, frames=3, policy="every") as stream,
        GLTexture(context, 32, 32, 1) as picture,
    ):
        stream.into(picture)
        assert picture.index == 2
        seen = shown(context, picture, 32, 32)
    with generator.stream(seed=1, start=2, frames=1) as stream:
        wanted = next(stream).picture.numpy()
    np.testing.assert_array_equal(seen[..., :1], wanted)


def test_frames_and_sizes_that_do_not_fit(context: Any) -> None:
    with GLTexture(context, 4, 6, 3) as picture:
        for wrong in (np.zeros((6, 4, 3), np.uint8), np.zeros((4, 6, 3), np.float32)):
            with pytest.raises(ArgumentError, match="frame"):
                picture.write(wrong, 0)
    for sizes in ((0, 4, 3), (4, 1 << 20, 3), (4, 4, 5)):
        with pytest.raises(ArgumentError, match="texture"):
            GLTexture(context, *sizes)
