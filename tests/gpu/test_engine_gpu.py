"""The engine on a GPU: parity of whole networks, graphs, streams, threads, memory, tuning."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import fastgan
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.errors import BackendError
from tests.networks.dcgan import dcgan
from tests.networks.families import FAMILIES
from tests.networks.images.cyclegan import cyclegan
from tests.networks.parity import produce, psnr
from tests.tolerances import MAX_ABS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


def _small(folder: Path, **options: Any) -> fastgan.Generator:
    path = folder / "dcgan.onnx"
    family = FAMILIES["dcgan"]
    if not path.exists():
        family.export(family.make(), path, "dynamo")
    return fastgan.load(path, device="cuda", backend="triton", **options)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_equal_eager(folder: Path, name: str, precision: str) -> None:
    family = FAMILIES[name]
    module, path = family.make(), folder / f"{name}.onnx"
    if not path.exists():
        family.export(module, path, "dynamo")
    generator = fastgan.load(path, device="cuda", backend="triton", precision=precision)
    for n in (1, 3):
        seed = int(torch.randint(2**31, ()))
        made, inputs = produce(family, generator, family.draw(n, seed), seed)
        with torch.inference_mode():
            expected = module.cpu()(*[value.cpu() for value in inputs])
        made = made.cpu()
        difference = (made - expected).abs().max().item() / family.scale
        if precision == "bf16":
            assert psnr(made, expected, family) >= family.bf16, f"seed {seed}"
        else:
            limit = family.fp16 if precision == "fp16" else MAX_ABS[precision]
            assert difference <= limit, f"batch {n}, seed {seed}"


@pytest.mark.parametrize("name", ["dcgan", "cyclegan"])
def test_fp8_is_close_to_eager_at_any_batch_size(tmp_path: Path, name: str) -> None:
    capability = torch.cuda.get_device_capability()
    if capability < (8, 9):
        with pytest.raises(BackendError, match=r"compute capability 8\.9"):
            fastgan.load("dcgan-digits", device="cuda", precision="fp8")
        return
    module = (dcgan(100, 64, 3, seed=0) if name == "dcgan" else cyclegan(64)).eval()
    given: Any = {"latent": (100, 1, 1)} if name == "dcgan" else {"image": (3, 64, 64)}
    fastgan.export(module, tmp_path / "m.onnx", verify=False, **given)
    generator = fastgan.load(tmp_path / "m.onnx", device="cuda", precision="fp8")
    plan = generator.plan(1)
    assert plan is not None
    assert any(step.kernel.endswith("e4m3") for step in plan.steps)
    x = torch.randn(5, *next(iter(given.values())))
    x = x if name == "dcgan" else x.tanh()
    with torch.inference_mode():
        expected = module(x)
    for n in (5, 1):
        port, output = generator.signature.inputs[0].name, generator.signature.outputs[0].name
        made = generator.run({port: x[:n]})[output].float().cpu()
        mse = (made - expected[:n]).square().mean()
        assert 10 * torch.log10(4 / mse) >= 30


@pytest.mark.parametrize("format", ["float32", "uint8"])
def test_replays_equal_plain_launches(folder: Path, format: str) -> None:
    graphs, plain = _small(folder), _small(folder)
    executable = plain._session.executable(plain._session.model.shapes(8))
    assert isinstance(executable, TritonExecutable)
    executable._workspace.capture = None
    for seed in range(4):
        expected = plain.generate(8, seed=seed, format=format)
        assert torch.equal(graphs.generate(8, seed=seed, format=format), expected)
    captured = graphs._session.executable(graphs._session.model.shapes(8))
    assert isinstance(captured, TritonExecutable)
    assert all(work.replay is not None for work in captured._built().work.values())


def test_a_batch_after_the_other_is_a_replay_and_no_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastgan.kernels import latents

    generator = _small(folder, precision="fp32")
    expected = _small(folder, precision="fp32").generate(24, seed=9, start=100, batch_size=8)
    generator.warm_up([8])
    first = generator.generate(8, seed=9, start=100)
    # From here on nothing is drawn, set or captured by the host.
    monkeypatch.setattr(latents, "words", lambda *_: pytest.fail("a counter was set"))
    monkeypatch.setattr(latents, "fill_next", lambda *_: pytest.fail("launched by itself"))
    monkeypatch.setattr("fastgan.inputs.draws.Draw.into", lambda *_: pytest.fail("drawn before"))
    rest = generator.generate(16, seed=9, start=108, batch_size=8)
    assert torch.equal(torch.cat([first, rest]), expected)


def test_a_result_is_not_overwritten(folder: Path) -> None:
    generator = _small(folder)
    first = generator.generate(4, seed=1)
    before = first.clone()
    generator.generate(4, seed=2)
    assert torch.equal(first, before)


def test_batches_of_all_sizes_give_the_same_images(folder: Path) -> None:
    generator = _small(folder, precision="fp32")
    expected = generator.generate(37, seed=5, batch_size=1)
    for batch in (37, 16, 8):
        images = generator.generate(37, seed=5, batch_size=batch)
        assert (images - expected).abs().max() <= 2e-5


def test_the_callers_stream_is_used(folder: Path) -> None:
    generator = _small(folder)
    expected = {seed: generator.generate(16, seed=seed) for seed in range(6)}
    torch.cuda.synchronize()
    made = {}
    for seed in expected:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            made[seed] = generator.generate(16, seed=seed)
            made[seed] = made[seed] + 0  # on the same stream: no other wait is needed
    torch.cuda.synchronize()
    assert all(torch.equal(made[seed], expected[seed]) for seed in expected)


@pytest.mark.parametrize("format", ["float32", "uint8"])
def test_it_can_be_a_part_of_the_callers_graph(folder: Path, format: str) -> None:
    generator = _small(folder, precision="fp32")  # fp16's guard asks the device at the end
    expected = generator.generate(8, seed=3, format=format)  # and all is compiled
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = generator.generate(8, seed=3, format=format)
    with torch.inference_mode():
        made.fill_(7)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(made, expected)
    assert torch.equal(generator.generate(8, seed=3, format=format), expected)


def test_threads_do_not_mix(folder: Path) -> None:
    generator = _small(folder)
    expected = {(n, seed): generator.generate(n, seed=seed) for n in (1, 5, 16) for seed in (0, 1)}
    wrong: list[tuple[int, int]] = []

    def work(n: int, seed: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                images = generator.generate(n, seed=seed)
                torch.cuda.current_stream().synchronize()
                if not torch.equal(images, expected[n, seed]):
                    wrong.append((n, seed))

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=key) for key in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_out_of_memory_halves_the_batch(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _small(folder).generate(64, seed=3, batch_size=4)
    generator = _small(folder)
    images = TritonExecutable.images

    def limited(self: TritonExecutable, inputs: Any, image: Any, out: Any = None) -> Any:
        if self.plan.buffers[self.plan.inputs[0]].shape[0] > 16:
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        return images(self, inputs, image, out)

    monkeypatch.setattr(TritonExecutable, "images", limited)
    with caplog.at_level(logging.WARNING, "fastgan"):
        made = generator.generate(64, seed=3, batch_size=64)
    assert (made - expected).abs().max() <= MAX_ABS["fp16"]
    assert len([r for r in caplog.records if "not enough memory" in r.message]) == 1


def test_latents_are_the_cpus(folder: Path) -> None:
    generator = _small(folder)
    there = fastgan.load(folder / "dcgan.onnx", device="cpu", backend="torch")
    for seed in (0, 2**63 + 1):
        here = generator.latents(1000, seed=seed, start=2**32 - 7)
        assert torch.equal(here.cpu(), there.latents(1000, seed=seed, start=2**32 - 7))


def test_tuning_keeps_the_images(folder: Path, tmp_path: Path) -> None:
    generator = _small(folder, precision="fp32")
    before = generator.generate(8, seed=1)
    generator.warm_up([8], tune=True, seconds=60)
    assert (generator.generate(8, seed=1) - before).abs().max() <= 2e-5
    assert list((tmp_path / "cache" / "tuning").glob("*.json"))
    again = _small(folder, precision="fp32")
    assert (again.generate(8, seed=1) - before).abs().max() <= 2e-5


def test_generate_does_not_wait_for_the_device_in_fp32(folder: Path) -> None:
    generator = _small(folder, precision="fp32")
    generator.generate(16, seed=0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        generator.generate(16, seed=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_fp32_of_the_library_is_no_tf32(folder: Path) -> None:
    """cuDNN rounds to tf32 by PyTorch's default: not in fp32, and the default comes back."""
    family = FAMILIES["dcgan"]
    _small(folder)
    generator = fastgan.load(
        folder / "dcgan.onnx", device="cuda", backend="torch", precision="fp32"
    )
    torch.backends.cudnn.allow_tf32 = True
    made, inputs = produce(family, generator, family.draw(3, 1), 1)
    assert torch.backends.cudnn.allow_tf32
    with torch.inference_mode():
        expected = family.make()(*[value.cpu() for value in inputs])
    assert (made.cpu() - expected).abs().max().item() / family.scale <= MAX_ABS["fp32"]
