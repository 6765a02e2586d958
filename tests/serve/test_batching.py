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

    def __init__(self, brief: bool = False) -> None:
        self.entered, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.runs: list[list[str]] = []
        self.threads: list[int] = []
        self._brief = brief

    def brief(self, asked: Any) -> bool:
        return self._brief

    def ready(self, asked: Any, alone: bool) -> Any:
        asked.alone = alone
        if asked.name == "unreadable":
            raise ValueError(asked.name)
        return asked

    def fit(self, asked: list[Any], one: Any) -> bool:
        return len(asked) < 2

    def run(self, asked: list[Any]) -> list[Any]:
        self.runs.append([one.name for one in asked])
        self.threads.append(threading.get_ident())
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


def test_a_brief_request_that_is_alone_is_run_where_it_is_asked_for() -> None:
    async def check() -> None:
        batcher = Batcher("brief", held := Held(brief=True))
        held.let.release(9)
        assert await batcher.run(alone := Asked("alone")) == {"name": "alone"}
        for name, error in (("wrong", SystemError), ("unreadable", ValueError)):
            with pytest.raises(error):
                await batcher.run(Asked(name))
        together = [Asked("one"), Asked("two")]
        await asyncio.gather(*map(batcher.run, together))  # which come in one turn of the loop
        assert alone.alone
        assert not any(one.alone for one in together)
        assert held.runs[:2] == [["alone"], ["wrong"]]
        assert [name for run in held.runs[2:] for name in run] == ["one", "two"]
        here = threading.get_ident()
        assert [thread == here for thread in held.threads][:3] == [True, True, False]
        await batcher.drain()

    asyncio.run(check())


def test_a_window_is_waited_for_by_one_that_is_alone_too() -> None:
    async def check() -> None:
        batcher = Batcher("window", held := Held(brief=True), window=0.001)
        held.let.release()
        await batcher.run(one := Asked("one"))
        assert not one.alone
        assert held.threads != [threading.get_ident()]
        await batcher.drain()

    asyncio.run(check())


def test_what_is_run_where_it_is_asked_for_is_run_apart() -> None:
    """Two loops: the thread waits for the one that computes itself."""
    batcher, answers = Batcher("apart", held := Held(brief=True)), []

    def loop(name: str) -> None:
        answers.append(asyncio.run(batcher.run(Asked(name))))

    threads = [threading.Thread(target=loop, args=(name,)) for name in ("here", "there")]
    threads[0].start()
    assert held.entered.acquire(timeout=60)
    threads[1].start()
    assert not held.entered.acquire(timeout=0.2)
    held.let.release(2)
    for thread in threads:
        thread.join(60)
    assert held.runs == [["here"], ["there"]]
    assert held.threads[0] == threads[0].ident
    assert held.threads[1] != threads[1].ident
    asyncio.run(batcher.drain())


def test_a_request_that_came_before_the_end_is_answered() -> None:
    async def check() -> None:
        batcher = Batcher("end", held := Held())
        held.let.release(2)
        await batcher.run(Asked("first"))  # so that there is a thread
        last = ask(batcher, "last")
        await asyncio.sleep(0)  # it is inside, and does not wait yet
        await batcher.drain()
        assert await last == {"name": "last"}

    asyncio.run(check())
