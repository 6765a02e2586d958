"""Weights are read once, packed one by one, and shared by all that runs a model."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fastgan
from fastgan.engine.native import graph
from fastgan.engine.native.packing import Product, Shared
from fastgan.errors import ModelFileError
from fastgan.model.file import source, stored
from fastgan.model.late import LEAST
from fastgan.model.signature import Shapes
from fastgan.plan.weights import Weights
from tests import networks

pytestmark = pytest.mark.skipif(not graph.runs_here(), reason="no native code here")

#: Of the layers below whose weights are read by themselves.
LARGE = 3


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DCGAN: its first layer becomes rows, batch norms go into the others, the last is small."""
    made = tmp_path_factory.mktemp("once") / "m.onnx"
    fastgan.export(networks.dcgan(64, 32, 3, seed=1), made, latent=(64, 1, 1), verify=False)
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each weight was read, by where it lies; the whole file apart."""
    counted: Counter[int] = Counter()
    read = stored.Opened.read

    def counting(self: stored.Opened, offset: int, size: int) -> Any:
        if offset:
            counted[offset] += 1
        return read(self, offset, size)

    monkeypatch.setattr(stored.Opened, "read", counting)
    return counted


def test_each_weight_is_read_once_whatever_the_batches(path: Path, reads: Counter[int]) -> None:
    generator = fastgan.load(path, device="cpu", backend="torch")
    assert len(reads) >= LARGE
    assert set(reads.values()) == {1}
    for n in (1, 2, 5):
        generator.generate(n, batch_size=n)
    assert set(reads.values()) == {1}


def test_no_weight_is_read_to_see_whether_it_is_a_filter(
    tmp_path: Path, reads: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the filters of one kernel for all channels are looked for, behind views."""
    monkeypatch.setattr(source, "_SMALL", 0)
    made = tmp_path / "m.onnx"
    network = nn.Sequential(
        nn.Linear(64, 512), nn.Unflatten(1, (32, 4, 4)), nn.Conv2d(32, 64, 3), nn.Tanh()
    )
    fastgan.export(network, made, latent=(64,), verify=False)
    generator = fastgan.load(made, device="cpu", backend="torch")
    for n in (1, 3):
        generator.generate(n, batch_size=n)
    assert len(reads) == 2
    assert set(reads.values()) == {1}


def test_a_weight_is_gone_before_the_next_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Product.loaded
    alive: list[weakref.ref[torch.Tensor]] = []

    def watched(self: Product) -> Any:
        assert all(ref() is None for ref in alive)
        tensors = loaded(self)
        alive.extend(weakref.ref(t) for t in tensors if t is not None and t.nbytes >= LEAST)
        return tensors

    monkeypatch.setattr(Product, "loaded", watched)
    generator = fastgan.load(path, device="cpu", backend="torch")
    assert len(alive) >= LARGE
    assert all(ref() is None for ref in alive)
    generator.generate(1)


def test_nothing_of_a_large_weight_survives_a_load(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, held = stored.memory, []

    def watched(size: int) -> Any:
        place = memory(size)
        held.append(weakref.ref(place))
        return place

    monkeypatch.setattr(stored, "memory", watched)
    generator = fastgan.load(path, device="cpu", backend="torch")
    generator.generate(2)
    assert len(held) > LARGE  # the file itself, and each weight
    gc.collect()
    assert all(ref() is None for ref in held)


def test_batches_share_packed_weights(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, made = Shared.pack, []

    def watched(self: Shared, *given: Any) -> Any:
        made.append(pack(self, *given))
        return made[-1]

    monkeypatch.setattr(Shared, "pack", watched)
    generator = fastgan.load(path, device="cpu", backend="torch")
    once = list(made)
    generator.generate(3, batch_size=3)
    assert len(made) == 2 * len(once)
    assert [id(each) for each in made[len(once) :]] == [id(each) for each in once]


@pytest.fixture
def sizable(tmp_path: Path) -> fastgan.Generator:
    """A generator that takes images of any size, and filters large ones in tiles."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 96, 3))
    fastgan.export(module, tmp_path / "m.onnx", image=(3, "h", "w"), verify=False)
    return fastgan.load(tmp_path / "m.onnx", device="cpu", backend="torch")


def shapes_of(generator: fastgan.Generator, height: int, width: int) -> Shapes:
    (name,) = generator._session.model.shapes(1)
    return {name: (1, 3, height, width)}


def test_packed_weights_go_with_the_last_that_uses_them(sizable: fastgan.Generator) -> None:
    session = sizable._session
    bytes_of = session.shared.native.bytes
    session.executable(shapes_of(sizable, 64, 64))
    before = bytes_of()
    assert before > 96 * 96 * 9 * 4
    session.executable(shapes_of(sizable, 4, 5))
    assert bytes_of() > before
    session.forget(shapes_of(sizable, 4, 5))
    gc.collect()
    assert bytes_of() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_images_of_any_size_share_packed_weights(
    sizable: fastgan.Generator, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are laid out alike; few are not. They are not even read for that."""
    session = sizable._session
    if precision == "bf16":
        file = session.model.origin
        assert file is not None
        sizable = fastgan.load(file.source, device="cpu", backend="torch", precision="bf16")
        session = sizable._session
    bytes_of = session.shared.native.bytes
    first, loaded, reads = bytes_of(), Product.loaded, []

    def counting(self: Product) -> Any:
        reads.append(self)
        return loaded(self)

    monkeypatch.setattr(Product, "loaded", counting)
    for side in range(4, 98, 3):
        session.executable(shapes_of(sizable, side, 101 - side))
    assert bytes_of() < 4 * first
    few = len(reads)
    assert few <= 6
    for side in range(4, 98, 5):
        session.executable(shapes_of(sizable, side, 101 - side))
    assert len(reads) == few


def test_images_of_any_size_are_those_of_eager_pytorch(sizable: fastgan.Generator) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 96, 3))
    for height, width in ((64, 64), (4, 5), (9, 70), (64, 65), (4, 6), (200, 3)):
        x = torch.randn(1, 3, height, width)
        (made,) = sizable.run({sizable.signature.inputs[0].name: x}).values()
        torch.testing.assert_close(made, module(x).detach(), atol=2e-5, rtol=1e-4)


def test_a_copy_shares_what_its_original_has_packed(path: Path, reads: Counter[int]) -> None:
    generator = fastgan.load(path, device="cpu", backend="torch")
    session = generator._session
    again = session.again(session.model.signature)
    reads.clear()
    again.executable(again.model.shapes(2))
    assert not reads


def test_the_images_are_those_of_eager_pytorch_from_bytes_and_path(path: Path) -> None:
    by_path = fastgan.load(path, device="cpu", backend="torch")
    by_bytes = fastgan.load(path.read_bytes(), device="cpu", backend="torch")
    for n in (1, 4):
        images = by_path.generate(n, seed=3)
        assert torch.equal(images, by_bytes.generate(n, seed=3))
    z = torch.randn(2, 64, 1, 1, generator=torch.Generator().manual_seed(0))
    expected = networks.dcgan(64, 32, 3, seed=1)(z).detach()
    found = next(iter(by_path.run({by_path.signature.inputs[0].name: z}).values()))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_threads_that_ask_for_batches_at_once(path: Path) -> None:
    generator = fastgan.load(path, device="cpu", backend="torch")
    expected = generator.generate(1, seed=5)
    found: dict[int, torch.Tensor] = {}

    def run(n: int) -> None:
        found[n] = generator.generate(n, seed=5, batch_size=n)[:1]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(2, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[n], expected) for n in range(2, 7))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork()")
def test_a_forked_child_reads_for_itself(path: Path) -> None:
    generator = fastgan.load(path, device="cpu", backend="torch")
    weights = generator.plan(1).weights
    name = max(weights, key=lambda each: weights[each].nbytes)
    expected = float(weights[name].sum())
    child = os.fork()
    if child == 0:
        same = float(generator.plan(1).weights[name].sum()) == expected
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_written_to_after_load(path: Path, tmp_path: Path) -> None:
    """What was packed runs on, at other batches too; a weight that is asked for is an error."""
    own = tmp_path / "own.onnx"
    own.write_bytes(path.read_bytes())
    generator = fastgan.load(own, device="cpu", backend="torch")
    expected = generator.generate(1, seed=2)
    own.write_bytes(bytes(own.stat().st_size))
    os.utime(own, ns=(0, 1))  # a clock may be too coarse to tell
    images = generator.generate(3, seed=2, batch_size=3)
    assert torch.equal(images[:1], expected)
    weights = generator.plan(3).weights
    assert isinstance(weights, Weights)
    late = next(name for name in weights if weights.late(name) is not None)
    with pytest.raises(ModelFileError, match=r"own\.onnx.*changed since it was loaded"):
        weights[late]


def test_a_file_touched_after_load(path: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(path.read_bytes())
    generator = fastgan.load(own, device="cpu", backend="torch")
    own.touch()
    os.utime(own, ns=(0, 1))
    weights = generator.plan(2).weights
    expected = fastgan.load(path, device="cpu", backend="torch").plan(2).weights
    for name in weights:
        assert torch.equal(weights[name], expected[name])


def test_a_generator_is_gone_with_its_last_name(path: Path, monkeypatch: Any) -> None:
    """Its memory and its file with it, whatever it has done: no collector is waited for."""
    opened, init = [], stored.Opened.__init__

    def watched(self: stored.Opened, *given: Any) -> None:
        init(self, *given)
        opened.append(weakref.ref(self))

    monkeypatch.setattr(stored.Opened, "__init__", watched)
    generator = fastgan.load(path, device="cpu", backend="torch")
    generator.generate(3, batch_size=2)
    generator.generate(1)
    generator.generate(1, format="uint8")
    name = generator.signature.inputs[0].name
    generator.run({name: torch.zeros(1, 64, 1, 1)})
    frame = generator.prepare(1)
    frame(seed=1)
    gc.collect()
    gc.disable()
    try:
        session = weakref.ref(generator._session)
        held = weakref.ref(generator._session.shared)
        del generator
        frame()  # which goes on
        del frame
        assert [ref() for ref in (session, held, *opened)] == [None] * (2 + len(opened))
        assert opened
    finally:
        gc.enable()


def test_what_is_left_of_a_generator_reads_its_weights(path: Path) -> None:
    """A plan keeps the file open by itself."""
    generator = fastgan.load(path, device="cpu", backend="torch")
    weights = generator.plan(1).weights
    expected = fastgan.load(path, device="cpu", backend="torch").plan(1).weights
    del generator
    gc.collect()
    for name in weights:
        assert torch.equal(weights[name], expected[name])


def test_weights_computed_of_others_are_those_of_the_same_file(path: Path) -> None:
    """Two plans of one model know that a weight with a batch norm in it is the same one."""
    generator = fastgan.load(path, device="cpu", backend="torch")
    few, many = (generator.plan(n).weights for n in (1, 3))
    assert isinstance(few, Weights)
    assert isinstance(many, Weights)
    late = [name for name in few if few.late(name) is not None]
    assert len(late) >= LARGE
    for name in late:
        one, other = few.late(name), many.late(name)
        assert one is not None
        assert other is not None
        assert one.identity == other.identity
        assert torch.equal(few[name], many[name])
    assert len({one.identity for name in late if (one := few.late(name))}) == len(late)
