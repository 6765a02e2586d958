"""Files that state nothing: the ranges guessed, and pictures through them as PyTorch has them."""

import io
import logging

import numpy as np
import onnx
import pytest
import torch

import fastgan
from fastgan.errors import ArgumentError
from fastgan.model.described import of as described_by
from fastgan.model.file import read
from tests.networks.published_ranges import IMAGENET, MEAN, PUBLISHED, STD, UNIT, Published, row

pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = 32


def module_of(name: str) -> torch.nn.Module:
    torch.manual_seed(sum(map(ord, name)))
    return PUBLISHED[name].make().eval()


def exported(name: str, open_sizes: bool = False) -> bytes:
    """By PyTorch's TorchScript exporter, with nothing stated."""
    case, file = PUBLISHED[name], io.BytesIO()
    names = [port for port, _ in case.inputs]
    axes = {port: {0: "n", 2: "h", 3: "w"} for port in names} if open_sizes else None
    torch.onnx.export(
        module_of(name),
        tuple(torch.rand(1, channels, SIZE, SIZE) for _, channels in case.inputs),
        file,
        input_names=names,
        dynamic_axes=axes,
        dynamo=False,
    )
    return file.getvalue()


def check_range(port, wanted) -> None:
    if wanted == IMAGENET:
        assert port.mean == pytest.approx(MEAN, abs=1e-4)
        assert port.std == pytest.approx(STD, abs=1e-4)
    else:
        assert (port.range, port.mean) == (wanted, ())


def check_signature(found, case: Published) -> None:
    images = [port for port in found.inputs if port.kind == "image"]
    for port in images:
        check_range(port, case.takes)
    check_range(found.outputs[0], case.makes)
    for port in found.inputs:
        assert port.kind == "image" or port.range == UNIT
    confident = [port.basis.confidence != "thin" for port in (*images, found.outputs[0])]
    assert all(confident) is case.firm


@pytest.mark.parametrize("name", PUBLISHED)
def test_guessed_as_published(name):
    check_signature(described_by(read(exported(name)).model), PUBLISHED[name])


@pytest.mark.parametrize("name", ["real-esrgan-compact", "swinir", "edsr", "lama", "srgan", "rvm"])
def test_guessed_with_open_sizes(name):
    found = described_by(read(exported(name, open_sizes=True)).model)
    check_signature(found, PUBLISHED[name])


def before(pictures, span):
    if span == IMAGENET:
        return (pictures - row(MEAN)) / row(STD)
    return pictures * (span[1] - span[0]) + span[0]


def after(values, span):
    if span == IMAGENET:
        return values * row(STD) + row(MEAN)
    return (values - span[0]) / (span[1] - span[0])


def as_bytes(pictures):
    return (pictures * 255).clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)


def picture(channels: int, seed: int):
    shape = (2, SIZE, SIZE, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


#: Of 255 for the mask's port, since a mask is one or the other.
HOLE = np.zeros((SIZE, SIZE), np.uint8)
HOLE[5:20, 9:30] = 255


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize(
    "name",
    [
        *("real-esrgan-compact", "espcn", "swinir", "edsr", "srgan", "cyclegan", "lama", "modnet"),
        *("fast-neural-style", "u2net", "dncnn", "deoldify", "imagenet", "adain"),
    ],
)
def test_pictures_through_as_pytorch_has_them(name, backend):
    case = PUBLISHED[name]
    given, tensors = {}, []
    for index, (port, channels) in enumerate(case.inputs):
        pixels = HOLE[None, :, :, None] if port == "mask" else picture(channels, index)[:1]
        given[port] = pixels
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        tensors.append(values if port == "mask" else before(values, case.takes))
    with torch.no_grad():
        made = module_of(name)(*tensors)
    wanted = as_bytes(after(made[0] if isinstance(made, tuple) else made, case.makes))

    first, *others = given
    g = fastgan.load(exported(name), device="cpu", backend=backend)
    got = g(given[first], format="uint8", **{port: given[port] for port in others})
    off = (got.int() - wanted.int()).abs()
    if "mask" in given:
        off = off[:, HOLE > 0]
    assert off.max() <= 1
    assert (off > 0).float().mean() < 0.01  # a value between two is rounded either way


def test_the_log_says_what_was_guessed_once(caplog):
    image = picture(3, 0)[:1]
    for name, level in (("srgan", logging.WARNING), ("real-esrgan-compact", logging.INFO)):
        g = fastgan.load(exported(name), device="cpu")
        caplog.clear()
        with caplog.at_level(logging.INFO, "fastgan"):
            g(image, format="uint8")
            g(image, format="uint8")
        (line,) = [r for r in caplog.records if "--range" in r.message]
        assert line.levelno == level
        assert "[0, 1]" in line.message
        assert "guessed" in line.message


def test_what_is_stated_decides_and_the_rest_follows(caplog):
    file = exported("real-esrgan-compact")
    stated = {"inputs": [{"kind": "image", "range": [0, 255]}]}
    g = fastgan.load(file, device="cpu", signature=stated)
    assert (g.signature.inputs[0].range, g.signature.outputs[0].range) == ((0, 255), (0, 255))
    assert g.signature.inputs[0].basis is None
    output = g.signature.outputs[0].name
    stated = {"outputs": [{"name": output, "range": [-1, 1]}]}
    g = fastgan.load(file, device="cpu", signature=stated)
    assert (g.signature.inputs[0].range, g.signature.outputs[0].range) == ((-1, 1), (-1, 1))


def stated_constants(mean, std, port="input"):
    return {"inputs": [{"name": port, "mean": mean, "std": std}]}


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_constants_of_each_channel(backend):
    mean, std = (0.1, 0.4, 0.7), (0.5, 0.25, 1.0)
    stated = stated_constants(mean, std)
    stated["outputs"] = [{"kind": "image", "mean": mean, "std": std}]
    pixels = picture(3, 3)
    g = fastgan.load(exported("dncnn-colour"), device="cpu", backend=backend, signature=stated)
    with torch.no_grad():
        taken = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - row(mean)) / row(std)
        made = module_of("dncnn-colour")(taken)
    wanted = as_bytes(made * row(std) + row(mean)).int()
    got = g(pixels, format="uint8", batch_size=1)
    assert (got.int() - wanted).abs().max() <= 1
    assert torch.equal(g(taken, format="uint8"), got)  # floats are in the model's range already
    out = torch.full_like(got, 7)
    assert g(pixels, format="uint8", out=out) is out
    assert torch.equal(out, got)
    torch.testing.assert_close(g(pixels), made, atol=1e-5, rtol=1e-5)
    grey = pixels[:1, :, :, :1]
    assert torch.equal(g(grey, format="uint8"), g(np.repeat(grey, 3, 3), format="uint8"))


def test_known_pixels_stay_with_constants_of_each_channel():
    """Inpainting: what is outside of the hole comes back bit for bit."""
    stated = stated_constants((0.1, 0.4, 0.7), (0.5, 0.25, 1.0), "image")
    g = fastgan.load(exported("lama"), device="cpu", signature=stated)
    pixels = picture(3, 5)[:1]
    got = g(pixels, mask=HOLE[None, :, :, None], format="uint8")
    assert np.array_equal(got[0].numpy()[HOLE == 0], pixels[0][HOLE == 0])
    low, high = g.signature.outputs[0].range
    floats = g(pixels, mask=HOLE[None, :, :, None])
    known = (floats[0].permute(1, 2, 0).numpy()[HOLE == 0] - low) / (high - low) * 255
    np.testing.assert_allclose(known, pixels[0][HOLE == 0], atol=1e-3)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"mean": [0.5, 0.5]}, "2 numbers"),
        ({"mean": [0.5] * 3, "std": [1.0]}, "std"),
        ({"mean": [0.5] * 3, "std": [0.0] * 3}, "above 0"),
        ({"mean": [0.5] * 3, "range": [0, 1]}, "one of the two"),
        ({"mean": "0.5"}, "mean"),
        ({"std": [float("nan")] * 3}, "std"),
        ({"kind": "latent", "mean": [0.5] * 3}, "input"),
    ],
)
def test_wrong_constants_name_the_field(entry, named):
    with pytest.raises(ArgumentError, match=named):
        fastgan.load(exported("edsr"), signature={"inputs": [{"name": "input", **entry}]})


def test_a_kind_that_no_input_has():
    with pytest.raises(ArgumentError, match="without 'latent'"):
        fastgan.load(exported("edsr"), signature={"inputs": [{"kind": "latent"}]})


# The file beside the model ------------------------------------------------------------------------


def test_a_file_beside_the_model(tmp_path):
    file, beside = tmp_path / "net.v2.onnx", tmp_path / "net.v2.fastgan.json"
    model = onnx.load_model_from_string(exported("real-esrgan-compact"))
    entry = model.metadata_props.add()
    entry.key = "fastgan.signature"
    entry.value = '{"version": 1, "inputs": [{"name": "input", "kind": "image", "range": [0, 2]}]}'
    onnx.save(model, file)
    assert fastgan.load(file, device="cpu").signature.image.range == (0, 2)
    beside.write_text(entry.value.replace("2]", "3]"))
    assert fastgan.load(file, device="cpu").signature.image.range == (0, 3)
    stated = {"inputs": [{"kind": "image", "range": [0, 4]}]}
    assert fastgan.load(file, device="cpu", signature=stated).signature.image.range == (0, 4)
    assert fastgan.load(file.read_bytes(), device="cpu").signature.image.range == (0, 2)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "the document"),
        ('{"inputs": []}', "version"),
        ('{"version": 2}', "later fastgan"),
        ('{"version": 1, "inputs": [{"name": "q", "kind": "image"}]}', "'q'"),
        (
            '{"version": 1, "inputs": [{"name": "input", "kind": "image", "range": [1, 0]}]}',
            "range",
        ),
        ('{"version": 1, "inputs": [{"name": "input", "kind": "image", "std": [0]}]}', "std"),
        (b"\xff\xfe", "UTF-8"),
        (None, "no plain file"),
    ],
)
def test_a_bad_file_beside_the_model_is_named(tmp_path, text, named):
    file, beside = tmp_path / "net.onnx", tmp_path / "net.fastgan.json"
    file.write_bytes(exported("real-esrgan-compact"))
    if text is None:
        beside.mkdir()
    else:
        beside.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(fastgan.ModelFileError, match=named) as caught:
        fastgan.load(file, device="cpu")
    assert "net.fastgan.json" in str(caught.value)
    assert "\n" not in str(caught.value)
