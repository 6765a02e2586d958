"""Results: memory that the ones before have left, a caller's alone as long as it is held."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import fastgan
from fastgan.host import results
from fastgan.host.native import _native

pytestmark = pytest.mark.skipif(_native is None, reason="no native code here")

SHAPE = (2, 3, 128, 128)
STRIDES = (3 * 128 * 128, 1, 3 * 128, 3)  # channels last


def test_what_is_dropped_is_used_again_and_what_is_held_is_not() -> None:
    make = results.maker(SHAPE, STRIDES)
    first = make()
    place = first.data_ptr()
    row = first[0]
    del first
    other = make()
    assert other.data_ptr() != place
    del row
    assert make().data_ptr() == place


def test_a_result_is_a_tensor_like_any_other() -> None:
    made = results.maker(SHAPE, STRIDES)()
    assert made.shape == torch.Size(SHAPE)
    assert made.stride() == STRIDES
    assert not made._is_view()
    assert made.data_ptr() % 64 == 0
    made.copy_(torch.arange(made.numel()).reshape(SHAPE))
    assert torch.equal(pickle.loads(pickle.dumps(made)), made)
    made.share_memory_()
    assert made.is_shared()
    made = results.empty(SHAPE, torch.float32, torch.device("cpu")).normal_().requires_grad_()
    (made * made).sum().backward()
    assert made.grad is not None
    torch.testing.assert_close(made.grad, 2 * made.detach())


@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (4, 3, 64, 64), (1, 3, 4096, 4096)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_any_size_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    made = results.empty(shape, dtype, torch.device("cpu"))
    like = torch.empty(shape, dtype=dtype)
    assert (made.shape, made.stride(), made.dtype) == (like.shape, like.stride(), dtype)
    made.fill_(1)
    assert int(made.long().sum()) == like.numel()


def test_no_more_is_kept_than_there_may_be() -> None:
    for megabytes in (1, 9, 10, 11, 12, 33):
        made = results.empty((megabytes << 20,), torch.uint8, torch.device("cpu"))
        del made
        assert 0 < _native.Result.kept() <= _native.RESULTS_KEPT
    held = [results.empty((5 << 20,), torch.uint8, torch.device("cpu")) for _ in range(9)]
    held.clear()
    assert _native.Result.kept() == 30 << 20


def test_threads_get_memory_of_their_own() -> None:
    wrong = []

    def work(number: int) -> None:
        make = results.maker((1, 32768), (32768, 1))
        for _ in range(300):
            made = make().fill_(number)
            if not bool((made == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_calls_whose_results_are_dropped_take_one_place(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.ConvTranspose2d(8, 16, 8), nn.Tanh(), nn.Upsample(scale_factor=16))
    fastgan.export(module, tmp_path / "m.onnx", latent=(8, 1, 1), verify=False)
    generator = fastgan.load(tmp_path / "m.onnx", device="cpu")
    name = generator.signature.inputs[0].name
    z = torch.zeros(2, 8, 1, 1)
    ways = {
        "run": lambda: next(iter(generator.run({name: z}).values())),
        "generate": lambda: generator.generate(2),
        "bytes": lambda: generator.generate(2, format="uint8"),
        "in batches": lambda: generator.generate(4, batch_size=2),
    }
    for what, way in ways.items():
        assert len({way().data_ptr() for _ in range(12)}) == 1, what
