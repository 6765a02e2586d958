"""Bundles in Python: the same bytes as the ONNX file, whatever the batch; and the file itself."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

import fastgan
from fastgan import _native, latents
from fastgan.bundle.write import _WAYS, write
from fastgan.engine.native import graph
from fastgan.errors import ArgumentError, BackendError, ModelFileError, UnsupportedError
from fastgan.host import processor
from fastgan.loading import open_model
from fastgan.ops.registry import find
from fastgan.plan import activations
from tests import drawing
from tests.bundle.conftest import ROOT, Bundled
from tests.networks import families
from tests.networks.family import Family
from tests.unit.models import graph_model, value

pytestmark = pytest.mark.cpu

#: Generators, and sizes of their images where these are open.
GENERATORS = (
    ("dcgan-digits", None),
    ("cgan-digits", None),
    ("vae-digits", None),
    ("texture-gravel", (64, 48)),
)
#: Image-to-image models, and a size that they take.
IMAGES = (
    ("superres-x4", (20, 28)),
    ("restore-photos", (24, 32)),
    ("style-tissue", (32, 32)),
    ("vae-digits-encoder", None),
)


def exported(family: Family, folder: Path) -> Path:
    path = folder / "model.onnx"
    family.export(family.make(), path, "torchscript")
    return path


@pytest.mark.parametrize(("name", "size"), GENERATORS, ids=str)
@pytest.mark.parametrize("n", [1, 7])
def test_generators_give_the_bytes_of_the_file(
    name: str, size: tuple[int, int] | None, n: int, bundled: Bundled
) -> None:
    file, made = fastgan.load(name, device="cpu"), fastgan.load(bundled(name, size=size))
    options = {} if size is None else {"size": size}
    for format in ("float32", "uint8"):
        expected = file.generate(n, seed=5, start=3, format=format, **options)
        found = made.generate(n, seed=5, start=3, format=format)
        assert torch.equal(found, expected)
    assert made.backend == "bundle"
    assert made.signature.class_names == file.signature.class_names


@pytest.mark.parametrize(("name", "size"), IMAGES, ids=str)
def test_images_give_the_bytes_of_the_file(
    name: str, size: tuple[int, int] | None, bundled: Bundled
) -> None:
    file, made = fastgan.load(name, device="cpu"), fastgan.load(bundled(name, size=size))
    port = file.signature.image
    assert port is not None
    height, width = size or port.shape[2:]
    inputs = {port.name: torch.rand(5, port.shape[1], height, width)}
    for name, expected in file.run(inputs).items():
        assert torch.equal(made.run(inputs)[name], expected)
    with pytest.raises((ArgumentError, BackendError), match=r"shape|size"):
        made.run({port.name: torch.rand(1, port.shape[1], height + 1, width)})


@pytest.mark.parametrize(("name", "scale"), [("superres-x4", 4), ("restore-photos", 1)], ids=str)
def test_images_of_other_sizes_are_run_in_tiles_of_its_own(
    name: str, scale: int, bundled: Bundled
) -> None:
    file, made = fastgan.load(name, device="cpu"), fastgan.load(bundled(name, size=(64, 64)))
    images = np.random.default_rng(6).integers(0, 256, (2, 96, 80, 3), dtype=np.uint8)
    found = made(images, tile_pad=16, format="uint8")
    assert found.shape == (2, 96 * scale, 80 * scale, 3)
    assert torch.equal(found, file(images, tile=32, tile_pad=16, format="uint8"))
    assert made(images[:, :40, :50], format="uint8").shape == (2, 40 * scale, 50 * scale, 3)
    with pytest.raises(ArgumentError, match=r"bundle for 64 x 64.*--size 80x96"):
        made(images, tile=0)


def test_images_of_each_size_run_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.fgb"
    write(open_model("restore-photos"), path, (1, 2), [(24, 32), (40, 48)])
    file, made = fastgan.load("restore-photos", device="cpu"), fastgan.load(path)
    images = np.random.default_rng(6).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    for sides in ((40, 48), (24, 32)):
        cut = images[:, : sides[0], : sides[1]]
        assert torch.equal(made(cut, tile=0, format="uint8"), file(cut, tile=0, format="uint8"))
        assert torch.equal(made(cut, format="uint8"), file(cut, format="uint8"))
    given = {made.signature.inputs[0].name: torch.rand(3, 3, 40, 48)}
    for name, expected in file.run(given).items():
        assert torch.equal(made.run(given)[name], expected)
    with pytest.raises(ArgumentError, match=r"bundle for 32 x 24, 48 x 40.*--size 32x40"):
        made(images[:, :, :32], tile=0)


def test_generators_make_each_size(tmp_path: Path) -> None:
    path = tmp_path / "model.fgb"
    write(open_model("texture-gravel"), path, (1,), [(64, 48), (32, 96)])
    file, made = fastgan.load("texture-gravel", device="cpu"), fastgan.load(path)
    for size in (None, (32, 96), (64, 48)):
        expected = file.generate(2, seed=5, size=size or (64, 48))
        assert torch.equal(made.generate(2, seed=5, size=size), expected)
    with pytest.raises(ArgumentError, match=r"\(64, 48\) or \(32, 96\)"):
        made.generate(1, size=(32, 32))


@pytest.mark.parametrize("name", ["biggan", "sagan", "stylegan2-noise", "wgan-gp", "vae"])
def test_families_give_the_bytes_of_the_file(name: str, tmp_path: Path) -> None:
    onnx = exported(families.FROM_LATENTS[name], tmp_path)
    write(open_model(onnx), tmp_path / "model.fgb", (1, 2))
    file, made = fastgan.load(onnx, device="cpu"), fastgan.load(tmp_path / "model.fgb")
    assert torch.equal(made.generate(2, seed=9), file.generate(2, seed=9))


@pytest.mark.parametrize("name", ["dcgan-digits", "vae-digits", "cgan-digits"])
def test_bf16_gives_the_bytes_of_the_file_in_bf16(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.fgb"
    write(open_model(name), path, (1, 4), precision="bf16")
    monkeypatch.setattr(processor, "has_tiles", bool)  # by our code, where oneDNN's is faster too
    low = fastgan.load(name, device="cpu", precision="bf16")
    made = fastgan.load(path)
    assert made.precision == "bf16"
    assert struct.unpack_from("<q", path.read_bytes(), 8) == (2,)
    expected = low.generate(7, seed=5)
    assert torch.equal(made.generate(7, seed=5), expected)
    exact = fastgan.load(path, precision="fp32").generate(7, seed=5)
    assert torch.equal(exact, fastgan.load(name, device="cpu").generate(7, seed=5))
    assert not torch.equal(exact, expected)
    write(open_model(name), path)
    with pytest.raises(BackendError, match="--precision bf16"):
        fastgan.load(path, precision="bf16")


@pytest.mark.parametrize(("precision", "way"), [("fp32", 1), ("bf16", 2)])
def test_chains_of_earlier_bundles_run_as_graphs(
    precision: str, way: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(open_model("dcgan-digits"), tmp_path / "new.fgb", (1, 4), precision=precision)
    monkeypatch.setitem(_WAYS, precision, way)
    write(open_model("dcgan-digits"), tmp_path / "old.fgb", (1, 4), precision=precision)
    new, old = (fastgan.load(tmp_path / f"{name}.fgb") for name in ("new", "old"))
    assert old.precision == precision
    assert torch.equal(old.generate(7, seed=5), new.generate(7, seed=5))


def test_images_in_bf16_are_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.fgb"
    monkeypatch.setattr(processor, "has_tiles", bool)
    write(open_model("superres-x4"), path, sizes=[(24, 32)], precision="bf16")
    images = np.random.default_rng(6).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    low = fastgan.load("superres-x4", device="cpu", precision="bf16")(images)
    assert torch.equal(fastgan.load(path)(images), low)
    exact = fastgan.load(path, precision="fp32")(images)
    assert torch.equal(exact, fastgan.load("superres-x4", device="cpu")(images))
    assert not torch.equal(exact, low)


def test_weights_are_there_once(bundled: Bundled) -> None:
    one, more = (bundled("dcgan-digits", b).stat().st_size for b in ((1,), (1, 2, 4, 8)))
    assert more < 1.02 * one


def test_the_checksum_is_zlibs(bundled: Bundled) -> None:
    data = bundled("dcgan-digits").read_bytes()
    version, checksum, size = struct.unpack_from("<3q", data, 8)
    assert data[:8] == b"fastgan\n"
    assert (version, size) == (1, len(data))
    assert checksum == zlib.crc32(data[24:])
    for size in (*range(200), 4096, 4097, 10_007):
        assert _native.bundle.crc32(data[9 : 9 + size]) == zlib.crc32(data[9 : 9 + size]), size


def test_a_damaged_bundle_is_one_error(bundled: Bundled, tmp_path: Path) -> None:
    data = bundled("dcgan-digits").read_bytes()
    path = tmp_path / "model.fgb"
    wrong = bytearray(data)
    wrong[len(wrong) // 2] ^= 1
    other = bytearray(data)
    other[8] = 9
    for bytes_, text in (
        (data[:-100], "a part is missing"),
        (bytes(wrong), "checksum"),
        (bytes(other), "format 9"),
        (data[:10], "no bundle"),
    ):
        path.write_bytes(bytes_)
        with pytest.raises(ModelFileError, match=text):
            fastgan.load(path)


def test_what_a_bundle_cant_be_made_of(tmp_path: Path) -> None:
    path = tmp_path / "model.fgb"
    with pytest.raises(ArgumentError, match="any size"):
        write(open_model("superres-x4"), path)
    with pytest.raises(ArgumentError, match="one size"):
        write(open_model("dcgan-digits"), path, sizes=[(64, 64)])
    with pytest.raises(ArgumentError, match="batch"):
        write(open_model("dcgan-digits"), path, batches=[0])
    with pytest.raises(ArgumentError, match=r"--size: found 56x40.*takes: 64x48"):
        write(open_model("colour-tissue"), path, sizes=[(40, 56)])
    assert not path.exists()
    onnx = exported(families.FROM_LATENTS["stylegan2-groups"], tmp_path)
    write(open_model(onnx), path, [3])
    assert fastgan.load(path).generate(2).shape[0] == 2
    assert not list(tmp_path.glob(".*"))


def test_a_step_without_native_code_is_named(tmp_path: Path) -> None:
    node = helper.make_node("CumSum", ["z", "axis"], ["y"], "running")
    file = graph_model([node], [value("z", ["n", 8])], weights={"axis": np.array(1)})
    with pytest.raises(UnsupportedError, match=r"running.*CumSum"):
        write(open_model(file), tmp_path / "model.fgb")


def test_the_documentation_lists_what_is_native() -> None:
    """Each operator on its side."""
    page = (ROOT / "docs" / "bundle.md").read_text().partition("## Native code")[2]
    ours, theirs = re.split(r"\n- ", page.partition("\n- PyTorch's too")[0])[1:]
    assert ours.startswith("Native: ")
    assert theirs.startswith("PyTorch's: ")
    rewritten = {
        *("Attention", "Gemm", "BatchNormalization", "InstanceNormalization"),
        "GroupNormalization",
        *("LayerNormalization", "Conv", "ConvTranspose", "Max", "Min", "Clip", "PRelu", "Pow"),
    }
    curves = _native.runtime.Curve.__members__
    activated = {row.onnx for name, row in activations.TABLE.items() if name in curves}
    table = {name for name in graph._TABLE if "." not in name}
    listed = {word for word in re.findall(r"\b[A-Z]\w+", ours) if word != "Native"}
    assert listed == table | activated - {""} | rewritten
    stay = {word for word in re.findall(r"\b[A-Z]\w+", theirs) if word not in ("PyTorch", "Where")}
    assert not stay & listed
    assert all(find("", name, 20) is not None for name in stay), "a name of ONNX's"


def test_truncation_has_the_bits_of_decimal_arithmetic() -> None:
    draw = drawing.new_random()
    limits = [0.001, 0.5, 0.7, 1.0, 2.0, 3.0, 6.5, 8.0, 100.0]
    limits += [float(np.exp(draw.uniform(-7, 2.2))) for _ in range(300)]
    for limit in limits:
        *_, expected = latents.recipe("normal", 1, seed=0, start=0, stream=0, truncation=limit)
        found = _native.bundle.truncation(limit)
        assert np.array_equal(np.float32(found), np.float32(tuple(expected))), limit
