"""Checkpoints of spandrel's own classes, with random weights, as ONNX files beside the classes.

It needs spandrel, which is not among the tests' packages: PyPI's torchvision is made for CUDA and
would pull such a torch. Beside a CPU torch this is enough here:

    pip install --no-deps spandrel safetensors einops torchvision==0.28.0
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fastgan
from fastgan.errors import ArgumentError, BackendError, ModelFileError, UnsupportedError


def without_operators() -> None:
    """Let PyPI's torchvision, built for CUDA, be imported beside a CPU torch: it then describes
    operators that it could not register, none of which these models run.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    text = (Path(spec.origin).parent / "_meta_registrations.py").read_text()
    for name in set(re.findall(r'register_(?:fake|meta)\("(?:torchvision::)?(\w+)"', text)):
        torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")


def _spandrel() -> Any:
    if importlib.util.find_spec("spandrel") is None:
        return None
    if torch.version.cuda is None:
        without_operators()
    return importlib.import_module("spandrel")


spandrel = _spandrel()
needs_spandrel = pytest.mark.skipif(
    spandrel is None, reason="no spandrel: see the top of this file"
)

#: Small ones of each architecture: the class's own arguments.
NETWORKS: dict[str, dict[str, Any]] = {
    "Compact": {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_conv": 2, "upscale": 4},
    "ESRGAN": {"in_nc": 3, "out_nc": 3, "num_filters": 16, "num_blocks": 1, "scale": 4},
    "RCAN": {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 16, "reduction": 4},
    "DnCNN": {"in_nc": 1, "out_nc": 1, "nc": 8, "nb": 17, "act_mode": "R"},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2},
    "NAFNet": {
        "img_channel": 3, "width": 8, "middle_blk_num": 1,
        "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1],
    },
    "PLKSR": {"dim": 16, "n_blocks": 2, "upscaling_factor": 2},
    "DRUNet": {"in_nc": 4, "out_nc": 3, "nc": [8, 16, 32, 64], "nb": 4},
    "MoSR": {"in_ch": 3, "out_ch": 3, "upscale": 2, "n_block": 2, "dim": 16},
    "SwiftSRGAN": {"in_channels": 3, "num_channels": 16, "num_blocks": 2, "upscale_factor": 2},
    "SwinIR": {
        "img_size": 16, "window_size": 8, "embed_dim": 12, "depths": [2], "num_heads": [2],
        "mlp_ratio": 2, "upscale": 2, "upsampler": "pixelshuffledirect",
    },
}  # fmt: skip


def weights(name: str) -> dict[str, torch.Tensor]:
    """Random weights of an architecture; none of them zero, as some layers begin."""
    network = getattr(importlib.import_module(f"spandrel.architectures.{name}"), name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = network(**NETWORKS[name]).eval()
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return made.state_dict()


@needs_spandrel
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_is_the_network_that_it_was_of(name, tmp_path) -> None:
    from fastgan.exporting import checkpoint

    file, model = tmp_path / "net.pth", tmp_path / "net.onnx"
    torch.save({"params_ema": weights(name)}, file)
    made = checkpoint.export(file, model)
    expected = spandrel.ModelLoader(device="cpu").load_from_file(file).eval()
    generator = fastgan.load(model, device="cpu")
    assert generator.scale == (expected.scale, expected.scale)
    for port in (generator.signature.image, generator.signature.made):
        assert (port.range, port.guessed) == ((0, 1), False)
    channels = expected.input_channels
    height, width = (made.side, made.side) if made.side else (48, 64)
    images = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # RCAN scales what it is given in place
        wanted = torch.cat(
            [expected._call_fn(expected.model, each[None].clone()) for each in images]
        )
    # Random weights leave [0, 1]: 2e-5 of half of what they span, as in docs/compatibility.md.
    half = max(1.0, float(wanted.max() - wanted.min())) / 2
    torch.testing.assert_close(generator(images), wanted, atol=2e-5 * half, rtol=0)
    # A picture of a size that some of them do not take: padded alike, and cropped.
    if made.side is None:
        draw = torch.Generator().manual_seed(2)
        picture = (torch.rand(37, 51, channels, generator=draw) * 255).byte()
        with torch.no_grad():
            whole = expected(picture.permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0)
        found = generator(picture.numpy(), format="uint8")[0]
        assert found.shape == whole.shape
        kept = slice(0, 16 * expected.scale)  # far from where the padding differs
        close = (found.float() - whole * 255).abs()[kept, kept]
        assert close.max() <= 1


@needs_spandrel
def test_the_command_takes_safetensors(tmp_path) -> None:
    from safetensors.torch import save_file
    from typer.testing import CliRunner

    from fastgan.cli import app

    save_file(weights("Compact"), tmp_path / "net.safetensors")
    words = ["export", str(tmp_path / "net.safetensors"), "-o", str(tmp_path / "net.onnx")]
    done = CliRunner().invoke(app(), words)
    assert done.exit_code == 0, done.output
    assert "Compact, 4x, images of any size" in done.output
    assert fastgan.load(tmp_path / "net.onnx", device="cpu").scale == (4, 4)


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


@needs_spandrel
def test_no_program_is_run(tmp_path, monkeypatch) -> None:
    from fastgan.exporting import checkpoint

    monkeypatch.chdir(tmp_path)
    torch.save({"params": Harmful()}, "torch.pth")
    Path("plain.pth").write_bytes(pickle.dumps(Harmful()))
    for name in ("torch.pth", "plain.pth"):
        with pytest.raises(ModelFileError):
            checkpoint.export(name, "out.onnx")
    assert not Path("harm").exists()
    assert not Path("out.onnx").exists()


@needs_spandrel
def test_what_is_no_checkpoint_is_one_error(tmp_path) -> None:
    from fastgan.exporting import checkpoint

    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    (tmp_path / "text.safetensors").write_text("text")
    (tmp_path / "net.pkl").write_text("text")
    for name, error, found in (
        ("other.pth", UnsupportedError, "unknown architecture"),
        ("list.pth", ModelFileError, "a list"),
        ("text.safetensors", ModelFileError, "text.safetensors"),
        ("net.pkl", ArgumentError, "safetensors"),
        ("none.pth", ModelFileError, "No such file"),
    ):
        with pytest.raises(error, match=found):
            checkpoint.export(tmp_path / name, tmp_path / "out.onnx")


def test_without_spandrel_it_says_what_to_install(tmp_path, monkeypatch) -> None:
    from fastgan.exporting import checkpoint

    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    with pytest.raises(BackendError, match=r"fastgan\[spandrel\]"):
        checkpoint.export(tmp_path / "net.pth", tmp_path / "out.onnx")
