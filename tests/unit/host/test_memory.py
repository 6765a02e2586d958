"""What does not fit is said before anything is allocated; `out` has memory of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

import fastgan
from fastgan import ArgumentError, latents
from fastgan.host import memory
from tests.unit.inputs.test_named_inputs import psi_model
from tests.unit.models import graph_model, value

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["torch", "ort"])
def small(request: pytest.FixtureRequest) -> fastgan.Generator:
    return fastgan.load(psi_model(), backend=request.param, device="cpu")


@pytest.fixture(scope="module")
def doubled() -> fastgan.Generator:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    images = ["n", 3, "h", "v"]
    data = graph_model([node], [value("x", images)], outputs=[value("y", images)])
    return fastgan.load(data, device="cpu")


def test_more_images_than_memory(small: fastgan.Generator) -> None:
    for n in (10**12, 1 << 60):
        for arguments in ({}, {"seed": 3, "format": "uint8"}, {"noise": False}):
            with pytest.raises(ArgumentError, match=r"n: found \d+ images, .*free; .*start="):
                small.generate(n, **arguments)
        with pytest.raises(ArgumentError, match="n: found"):
            small.latents(n)
    with pytest.raises(ArgumentError, match="n: found"):
        latents.normal(10**12, 100)


def test_a_batch_beyond_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = fastgan.load(psi_model(), device="cpu", backend="torch")
    monkeypatch.setattr(memory, "UNASKED", 0)
    monkeypatch.setattr(memory, "available", lambda device: 150_000)
    assert generator.generate(500, batch_size=10).shape[0] == 500  # 112,000 bytes, made of 2,240
    with pytest.raises(ArgumentError, match=r"batch_size: found a run of 800, .*smaller"):
        generator.generate(800, batch_size=800, out=torch.empty(800, 3, 4, 4))


def test_a_result_beyond_memory(
    doubled: fastgan.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.rand(4, 3, 64, 64)
    out = torch.empty_like(x)
    doubled(x, batch_size=1)
    monkeypatch.setattr(memory, "UNASKED", 0)
    monkeypatch.setattr(memory, "available", lambda device: x[:2].nbytes + 1)
    with pytest.raises(ArgumentError, match="images: found 4 results"):
        doubled(x, batch_size=1)
    assert torch.equal(doubled(x, batch_size=1, out=out), x + x)


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(str(text))


def test_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control groups in a folder of our own: their limits, less what is used, files but cached."""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    before = memory.available(CPU)
    assert before is not None
    group(tmp_path, memory_max="max", memory_current=5)
    assert abs((memory.available(CPU) or 0) - before) < before / 2
    stat = "anon 100\ninactive_file 1000\n"
    group(tmp_path, memory_max=500_000, memory_current=450_000, memory_stat=stat)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    if any(line.startswith("0::") for line in lines):
        assert memory.available(CPU) == 51_000
    assert memory._left(tmp_path, "memory.max", "memory.current", "inactive_file") == 51_000


# out ---------------------------------------------------------------------------------------------


def test_out_that_overlaps_itself(
    small: fastgan.Generator, doubled: fastgan.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = torch.empty(1, 3, 4, 4)
    windows = torch.empty(4 * 48).as_strided((4, 3, 4, 4), (16, 16, 4, 1))
    for out in (row.expand(4, -1, -1, -1), windows):
        with pytest.raises(ArgumentError, match="out: found elements that share memory"):
            small.generate(4, out=out)
        with pytest.raises(ArgumentError, match="out: found elements that share memory"):
            doubled(torch.rand(4, 3, 4, 4), out=out)


def test_out_in_strides_of_its_own(small: fastgan.Generator) -> None:
    expected = small.generate(4)
    wide = torch.full((4, 3, 4, 8), torch.nan)
    last = torch.full((4, 4, 4, 3), torch.nan)
    for out in (wide[..., ::2], last.permute(0, 3, 1, 2), torch.empty(3, 4, 4, 4).transpose(0, 1)):
        assert small.generate(4, out=out) is out
        assert torch.equal(out, expected)
    assert wide[..., 1::2].isnan().all()


def test_out_that_is_the_input(doubled: fastgan.Generator, small: fastgan.Generator) -> None:
    x = torch.rand(2, 3, 4, 4)
    array = x.numpy()
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    for given, out in ((x, x), (array, x), (x[:1], x[:1]), (pixels, pixels)):
        format = "float32" if out.dtype == torch.float32 else "uint8"
        with pytest.raises(ArgumentError, match="out: found memory that an input lies in"):
            doubled(given, out=out, format=format)
    z = torch.rand(48 * 3)
    with pytest.raises(ArgumentError, match="out: found memory"):
        small.generate(3, z=z[:24].reshape(3, 8), out=z.reshape(3, 3, 4, 4))
    both = torch.rand(2, 2, 3, 4, 4)
    for given, out in ((both[0], both[1]), (both[:, 0], both[:, 1])):  # side by side is apart
        assert torch.equal(doubled(given, out=out), given + given)
    assert np.isfinite(both.numpy()).all()
