"""The OpenGL texture shows the frames written to it, here in software (EGL, llvmpipe).

test_gl.py runs these in a process of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import fastgan
from fastgan import ArgumentError
from fastgan.realtime import GLTexture
from fastgan.realtime.outputs import gl
from tests import drawing
from tests.ring import cuda_stand_in
from tests.ring.gl_context import moderngl, opened

rng = drawing.new_numpy()


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    made = opened()
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


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in of CUDA, for which every tensor lies on the GPU."""
    monkeypatch.setattr(gl, "_on_gpu", lambda pixels: hasattr(pixels, "is_cuda"))
    return cuda_stand_in.install(monkeypatch)


def shared(gpu: Any, picture: GLTexture) -> GLTexture:
    """What is written through CUDA reaches this texture's buffers."""
    buffers = {buffer.glo: buffer for buffer in picture._buffers}
    gpu.sizes = {glo: buffer.size for glo, buffer in buffers.items()}
    gpu.written = lambda glo, values: buffers[glo].write(values)
    return picture


def test_frames_on_a_gpu_are_copied_there(context: Any, gpu: Any) -> None:
    with shared(gpu, GLTexture(context, 5, 7, 3)) as picture:
        for index in range(5):
            frame = torch.randint(0, 256, (5, 7, 3), dtype=torch.uint8)
            picture.write(frame, index)
            seen = shown(context, picture, 5, 7)[..., :3]
            np.testing.assert_array_equal(seen, frame.numpy())
        picture.write(frame.flip(0).numpy(), 5)  # one from elsewhere, between them
        np.testing.assert_array_equal(shown(context, picture, 5, 7)[..., :3], frame.flip(0))
    graphics = [name.removeprefix("cudaGraphics") for name in gpu.calls]
    each = ["MapResources", "ResourceGetMappedPointer", "UnmapResources"]
    ends = ["UnregisterResource"] * 2
    assert graphics == ["GLRegisterBuffer"] * 2 + each * 5 + ends
    assert not gpu.memory


@pytest.mark.parametrize("call", ["GLRegisterBuffer", "MapResources", "ResourceGetMappedPointer"])
def test_where_cuda_cannot_frames_are_uploaded(
    context: Any, gpu: Any, caplog: Any, call: str
) -> None:
    with shared(gpu, GLTexture(context, 5, 7, 3)) as picture:
        if call != "GLRegisterBuffer":  # it fails later
            picture.write(torch.zeros((5, 7, 3), dtype=torch.uint8), 0)
        gpu.fails = {f"cudaGraphics{call}"}
        for index in range(1, 4):
            frame = torch.randint(0, 256, (5, 7, 3), dtype=torch.uint8)
            picture.write(frame, index)
            seen = shown(context, picture, 5, 7)[..., :3]
            np.testing.assert_array_equal(seen, frame.numpy())
    assert len(caplog.records) == 1
    assert f"by way of the CPU: CUDA: found cudaGraphics{call}: cudaError" in caplog.text
    assert not gpu.mapped
    assert gpu.calls.count("cudaGraphicsUnregisterResource") == (call != "GLRegisterBuffer") * 2


def test_without_the_bindings_frames_are_uploaded(
    context: Any, gpu: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with GLTexture(context, 5, 7, 3) as picture:
        picture.write(torch.zeros((5, 7, 3), dtype=torch.uint8), 0)
    assert "pip install cuda-bindings" in caplog.text


def test_frames_and_sizes_that_do_not_fit(context: Any) -> None:
    with GLTexture(context, 4, 6, 3) as picture:
        wrong_size = torch.zeros((6, 4, 3), dtype=torch.uint8)
        for wrong in (wrong_size, np.zeros((6, 4, 3), np.uint8), np.zeros((4, 6, 3), np.float32)):
            with pytest.raises(ArgumentError, match="frame"):
                picture.write(wrong, 0)
    for sizes in ((0, 4, 3), (4, 1 << 20, 3), (4, 4, 5)):
        with pytest.raises(ArgumentError, match="texture"):
            GLTexture(context, *sizes)
