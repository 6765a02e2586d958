"""load(threads=): each model computes with its own, whatever others do at the same time."""

from __future__ import annotations

import os
import pickle
import threading

import pytest
import torch

import fastgan
from fastgan.generator import Generator
from fastgan.host import threads
from fastgan.loading import open_model
from fastgan.measure.subject import example_inputs
from tests.work import operators

CPUS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@pytest.fixture(autouse=True)
def _two() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_limit_is_of_one_thread_and_ends() -> None:
    elsewhere = []
    with threads.limited(3):
        assert torch.get_num_threads() == 3
        with threads.limited(1):
            assert torch.get_num_threads() == 1
            other = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
            other.start()
            other.join()
        assert torch.get_num_threads() == 3
    with pytest.raises(KeyError), threads.limited(1):
        raise KeyError
    assert torch.get_num_threads() == 2
    assert elsewhere == [2]


def spied(generator: Generator, seen: set[int]) -> Generator:
    """A generator whose runs tell how many threads they have."""
    session = generator._session
    images, outputs, prepare = session.images, session.outputs, session.prepare

    def spy(run: object) -> object:
        def call(*positional: object, **named: object) -> object:
            seen.add(torch.get_num_threads())
            return run(*positional, **named)

        return call

    def prepared(*positional: object) -> object:
        run, place = prepare(*positional)
        run._run = spy(run._run)
        return run, place

    session.images, session.outputs, session.prepare = spy(images), spy(outputs), prepared
    return generator


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_every_way_to_make_images_has_them(backend: str) -> None:
    seen: set[int] = set()
    g = fastgan.load("dcgan-digits", device="cpu", backend=backend, threads=1)
    g = spied(g, seen)
    z = g.latents(2)
    made = [
        g.generate(2),
        g.generate(2, latents=z),
        next(g.batches(2)),
        *g.run({"latent": z}).values(),
    ]
    for one in made[1:]:
        assert torch.equal(one.reshape(made[0].shape), made[0])
    with g.stream(frames=2, policy="every") as stream:
        assert len(list(stream)) == 2
    assert seen == {1}
    assert torch.get_num_threads() == 2
    images = spied(fastgan.load("colour-tissue", device="cpu", backend=backend, threads=1), seen)
    images(torch.zeros(1, 1, 16, 16))
    assert seen == {1}
    assert torch.get_num_threads() == 2


def test_two_models_at_once_keep_their_own() -> None:
    seen: dict[int, set[int]] = {1: set(), 3: set()}
    models = {n: fastgan.load("dcgan-digits", device="cpu", threads=n) for n in seen}
    expected = fastgan.load("dcgan-digits", device="cpu", threads=1).generate(4, seed=3)
    start, results = threading.Barrier(2), []

    def work(n: int) -> None:
        generator = spied(models[n], seen[n])
        start.wait()
        for _ in range(20):
            results.append(torch.equal(generator.generate(4, seed=3), expected))

    workers = [threading.Thread(target=work, args=(n,)) for n in models]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 40
    assert seen == {1: {1}, 3: {3}}
    assert torch.get_num_threads() == 2


def test_they_travel_with_a_pickle_and_copies() -> None:
    g = fastgan.load("dcgan-digits", device="cpu", threads=1)
    assert g.threads == pickle.loads(pickle.dumps(g)).threads == g.__copy__().threads == 1
    other = g.at("fp32")
    assert other is not None
    assert other.threads == 1
    assert fastgan.load("dcgan-digits", device="cpu").threads is None


@pytest.mark.parametrize("name", ["dcgan-digits", "texture-gravel", "colour-tissue"])
def test_a_native_run_has_no_threads_of_torchs_beside_its_own(name: str) -> None:
    """They spin when they are done, on the cores that the next run needs: so no operator copies."""
    g = fastgan.load(name, device="cpu")
    model = open_model(name)
    for n in (1, 2):
        x = example_inputs(model, n)
        g.run(x)
        assert operators(lambda x=x: g.run(x)) == []
        if g.signature.needed:
            continue
        g.generate(n)
        assert operators(lambda n=n: g.generate(n)) == []
        assert operators(lambda n=n: g.generate(2 * n, batch_size=n)) == []


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU, or none that threads can be kept to")
def test_workers_keep_off_the_callers_cpu_which_stays_as_it_is() -> None:
    fastgan.load("dcgan-digits", device="cpu", threads=2).generate(8)
    allowed = [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]
    assert any(len(CPUS - cpus) == 1 and cpus < CPUS for cpus in allowed)
    assert os.sched_getaffinity(0) == CPUS


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", 5000])
def test_what_is_no_number_of_threads(value: object) -> None:
    with pytest.raises(fastgan.ArgumentError, match="threads"):
        fastgan.load("dcgan-digits", device="cpu", threads=value)
