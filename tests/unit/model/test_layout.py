"""Files whose images are channels last, as Keras writes them: everywhere else they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from PIL import Image

import fastgan
from fastgan.cli import main
from tests.unit.models import graph_model, value

KERNEL = np.random.default_rng(7).standard_normal((3, 3, 3, 3)).astype(np.float32) / 5
LAST, FIRST = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}


def filter_model(height: int | str = "h", width: int | str = "w") -> bytes:
    """photo [n, H, W, 3] -> [n, H, W, 3]: a convolution between two Transposes, and a Tanh."""
    nodes = [
        helper.make_node("Transpose", ["photo"], ["first"], **FIRST),
        helper.make_node("Conv", ["first", "kernel"], ["made"], pads=[1] * 4),
        helper.make_node("Transpose", ["made"], ["last"], **LAST),
        helper.make_node("Tanh", ["last"], ["y"]),
    ]
    shape = ["n", height, width, 3]
    return graph_model(
        nodes, [value("photo", shape)], weights={"kernel": KERNEL}, outputs=[value("y", shape)]
    )


def expected(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(torch.nn.functional.conv2d(x, torch.from_numpy(KERNEL), padding=1))


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize("sizes", [("h", "w"), (12, 9)])
def test_an_image_to_image_model(backend: str, sizes: tuple[int | str, int | str]) -> None:
    g = fastgan.load(filter_model(*sizes), device="cpu", backend=backend)
    (photo,), (made,) = g.signature.inputs, g.signature.outputs
    assert (photo.kind, made.kind) == ("image", "image")
    assert photo.shape[1] == made.shape[1] == 3
    assert photo.channels_last
    assert "channels last in the file" in str(g.signature)
    x = torch.rand(2, 3, 12, 9) * 2 - 1
    assert torch.allclose(g(x), expected(x), atol=2e-5)
    # `run` is the file's own: [n, H, W, C] in and out.
    rows = x.permute(0, 2, 3, 1).numpy()
    result = g.run({"photo": rows})["y"]
    assert result.is_contiguous()
    assert torch.allclose(result, expected(x).permute(0, 2, 3, 1), atol=2e-5)
    pixels = torch.randint(0, 256, (1, 12, 9, 3), dtype=torch.uint8)
    assert g(pixels, format="uint8").shape == (1, 12, 9, 3)


def test_no_transpose_is_left() -> None:
    g = fastgan.load(filter_model(12, 9), device="cpu", backend="torch")
    plan = g.plan(2)
    assert plan is not None
    assert [step.op for step in plan.steps] == ["fastgan.Conv"]


def test_a_picture_goes_through_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(filter_model())
    picture = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    options = ["-i", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")]
    monkeypatch.setattr("sys.argv", ["fastgan", "apply", str(tmp_path / "m.onnx"), *options])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    found = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    wanted = ((expected(x)[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize(
    "shape",
    [
        ["n", 3, 8, 3],  # channels first, three pixels wide
        ["n", 512, 1, 1],  # a latent
        ["n", 64, 4, 4],  # features
        ["n", 16, 16, 5],
    ],
)
def test_what_is_left_alone(shape: list[int | str]) -> None:
    node = helper.make_node("Tanh", ["x"], ["y"])
    data = graph_model([node], [value("x", shape)], outputs=[value("y", shape)])
    g = fastgan.load(data, device="cpu")
    assert g.signature.inputs[0].shape == tuple(shape)
    assert not g.signature.outputs[0].channels_last


def test_an_input_that_is_the_output_too_is_left_alone() -> None:
    model = onnx.ModelProto.FromString(filter_model())
    model.graph.output.append(value("photo", ["n", "h", "w", 3]))
    g = fastgan.load(model.SerializeToString(), device="cpu")
    x = torch.rand(1, 6, 7, 3)
    assert torch.equal(g.run({"photo": x})["photo"], x)
