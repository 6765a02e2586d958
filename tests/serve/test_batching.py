"""The queue of a model: bounded, forgetful of those that go away, and drained without loss."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="it comes with fastgan[serve]")

from fastgan.serve.batching import Batcher, BusyError, DrainingError


class Held:
    """Runs requests, two together at most, when it is let; each is a name and its own answer."""

    def __init__(self) -> None:
        self.entered, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.runs: list[list[str]] = []

    def fit(self, asked: list[Any], one: Any) -> bool:
        return len(asked) < 2

    def run(self, asked: list[Any]) -> list[Any]:
        self.runs.append([one.name for one in asked])
        self.entered.release()
        assert self.let.acquire(timeout=60)
        if any(one.name == "wrong" for one in asked):
            raise SystemError("all of it")
        return [{"name": one.name} for one in asked]


class Asked:
    n = 1

    def __init__(self, name: str) -> None:
        self.name = name


def ask(batcher: Batcher, name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(batcher.run(Asked(name)))


async def entered(held: Held) -> None:
    assert await asyncio.to_thread(held.entered.acquire, timeout=60)


def test_what_is_being_computed_is_answered_before_the_end() -> None:
    async def check() -> None:
        batcher = Batcher("drained", held := Held())
        first = ask(batcher, "first")
        await entered(held)
        second = ask(batcher, "second")
        await asyncio.sleep(0)
        end = asyncio.create_task(batcher.drain())
        await asyncio.sleep(0.1)
        assert not end.done()
        with pytest.raises(DrainingError):
            await batcher.run(Asked("late"))
        held.let.release()
        await entered(held)
        await asyncio.sleep(0.1)
        assert not end.done()
        held.let.release()
        await end
        assert [await first, await second] == [{"name": "first"}, {"name": "second"}]

    asyncio.run(check())


def test_a_queue_that_is_full_and_clients_that_go() -> None:
    async def check() -> None:
        batcher = Batcher("full", held := Held(), most=2)
        first = ask(batcher, "first")
        await entered(held)
        gone, stays = ask(batcher, "gone"), ask(batcher, "stays")
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.run(Asked("one too many"))
        gone.cancel()
        await asyncio.wait([gone])
        after = ask(batcher, "after")
        first.cancel()  # which is being computed: what it gets is dropped
        await asyncio.wait([first])
        held.let.release()
        await entered(held)
        held.let.release()
        assert [await stays, await after] == [{"name": "stays"}, {"name": "after"}]
        assert held.runs == [["first"], ["stays", "after"]]
        await batcher.drain()

    asyncio.run(check())


def test_a_run_that_fails_leaves_the_thread_alive() -> None:
    async def check() -> None:
        batcher = Batcher("fails", held := Held())
        held.let.release(2)
        with pytest.raises(SystemError, match="all of it"):
            await batcher.run(Asked("wrong"))
        assert await batcher.run(Asked("right")) == {"name": "right"}

    asyncio.run(check())


def test_requests_of_two_event_loops_are_one_batch() -> None:
    batcher, answers = Batcher("loops", held := Held()), []

    def loop(name: str) -> None:
        answers.append(asyncio.run(batcher.run(Asked(name))))

    threads = [threading.Thread(target=loop, args=(name,)) for name in ("0", "1", "2")]
    threads[0].start()
    assert held.entered.acquire(timeout=60)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 60
    while len(batcher._waiting) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    held.let.release(2)
    for thread in threads:
        thread.join(60)
    assert sorted(map(sorted, held.runs)) == [["0"], ["1", "2"]]
    assert sorted(one["name"] for one in answers) == ["0", "1", "2"]
