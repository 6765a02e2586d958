"""Models whose output is integers: values that are pixels already, channels first or last."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

import fastgan
from tests.unit.models import graph_model, value

BACKENDS = ["torch", "ort"]


def pixels(last: bool, image: bool = False, kind: int = TensorProto.UINT8) -> bytes:
    """A generator, or a model from image to image, that ends in a Cast to integers."""
    weight = np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32) * 40
    first = helper.make_node("ConvTranspose", ["z", "w"], ["a"])
    inputs = [value("z", ["n", 8, 1, 1])]
    if image:
        first = helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT)
        inputs = [value("x", ["n", 3, "h", "v"], TensorProto.UINT8)]
    nodes = [
        first,
        helper.make_node("Add", ["a", "shift"], ["b"]),
        helper.make_node("Clip", ["b", "low", "high"], ["c"]),
        *([helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 3, 1])] if last else []),
        helper.make_node("Cast", ["d" if last else "c"], ["y"], to=kind),
    ]
    sizes = ["h", "v"] if image else [6, 6]
    shape = ["n", *sizes, 3] if last else ["n", 3, *sizes]
    numbers = {"shift": 9.0 if image else 128.0, "low": 0.0, "high": 255.0}
    return graph_model(
        nodes,
        inputs,
        weights={"w": weight, **{key: np.float32(number) for key, number in numbers.items()}},
        outputs=[value("y", shape, kind)],
    )


@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_generators(backend: str, last: bool) -> None:
    generator = fastgan.load(pixels(last), backend=backend, device="cpu")
    raw = generator.run({"z": generator.latents(3)})["y"]
    expected = raw if last else raw.permute(0, 2, 3, 1)
    assert raw.dtype == torch.uint8
    assert len(raw.unique()) > 20
    made = generator.generate(3, format="uint8")
    assert made.is_contiguous()
    assert torch.equal(made, expected)
    floats = generator.generate(3)
    assert floats.dtype == torch.float32
    assert torch.equal(floats.permute(0, 2, 3, 1), expected.float())
    for format, target in (("uint8", made), ("float32", floats)):
        out = torch.full_like(target, 77)
        assert generator.generate(3, format=format, out=out, batch_size=2) is out
        assert torch.equal(out, target)


@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_image_models(backend: str, last: bool) -> None:
    generator = fastgan.load(pixels(last, image=True), backend=backend, device="cpu")
    given = torch.randint(0, 256, (2, 9, 7, 3), dtype=torch.uint8)
    expected = (given.int() + 9).clamp(max=255).to(torch.uint8)
    assert torch.equal(generator(given, format="uint8"), expected)
    assert torch.equal(generator(given).permute(0, 2, 3, 1), expected.float())
    pictures = generator(given, format="pil")
    assert np.array_equal(np.stack([np.asarray(p) for p in pictures]), expected.numpy())


@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("kind", ["INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_of_other_widths(backend: str, kind: str, last: bool) -> None:
    data = pixels(last, image=True, kind=TensorProto.DataType.Value(kind))
    generator = fastgan.load(data, backend=backend, device="cpu")
    given = torch.randint(0, 256, (2, 9, 7, 3), dtype=torch.uint8)
    expected = (given.int() + 9).clamp(max=255)
    raw = generator.run({"x": given.permute(0, 3, 1, 2)})["y"]
    assert raw.dtype == getattr(torch, kind.lower())
    assert torch.equal(raw.int() if last else raw.int().permute(0, 2, 3, 1), expected)
    assert torch.equal(generator(given, format="uint8"), expected.to(torch.uint8))
    assert torch.equal(generator(given).permute(0, 2, 3, 1), expected.float())


def test_what_onnx_runtime_computes_and_does_not_hand_over() -> None:
    data = pixels(False, image=True, kind=TensorProto.BFLOAT16)
    with pytest.raises(fastgan.BackendError, match=r"'y': found tensor\(bfloat16\)"):
        fastgan.load(data, backend="ort", device="cpu")
    made = fastgan.load(data, backend="torch", device="cpu").run(
        {"x": torch.full((1, 3, 2, 2), 200, dtype=torch.uint8)}
    )
    assert torch.equal(made["y"].float(), torch.full((1, 3, 2, 2), 209.0).bfloat16().float())
