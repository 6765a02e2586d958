"""Kernels compiled before they are needed, by several processes at once.

What a process has compiled lies in Triton's cache on disk, where every other finds it: children
compile, and whoever launches loads. A child has no GPU. It is told what kinds of arguments a launch
has, not what they are, and compiles for the GPU that it is told of. What it can't compile, or ends
on, is left to whoever launches, who has to say what is wrong.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from .types import Call, Config

#: A kernel that is there in less than so many seconds came from the cache.
_CACHED = 0.15

#: With fewer cores the children would only stand in each other's way, and in the parent's.
_FEWEST_CORES, _MOST_CHILDREN = 4, 16

#: What is called with how many are compiled, and of how many.
Progress = Callable[[int, int], object]
_progress: list[Progress] = []

#: The orders of this process so far.
_known: set[str] = set()


class Pointer(NamedTuple):
    """A tensor, for a compiler: aligned to 16 bytes."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Order:
    """A launch, for a compiler in another process.

    Attributes:
        module, name: of the kernel.
        arguments: those of the launch; tensors as `Pointer`, whole numbers of the same kind as one.
        options: Triton's.
    """

    module: str
    name: str
    arguments: dict[str, Any]
    options: dict[str, Any]

    def call(self) -> Call:
        """Such a launch, on tensors without memory."""
        kernel = getattr(importlib.import_module(self.module), self.name)
        arguments = {name: _given(value) for name, value in self.arguments.items()}
        return Call(kernel, (1,), arguments, Config(1, 1, 1))


def order(call: Call) -> Order | None:
    """A launch as an order; None where Triton would take a tensor of it for one not aligned."""
    function = call.function.fn
    notes = function.__annotations__
    try:
        arguments = {
            name: value if "constexpr" in str(notes.get(name, "")) else kind_of(value)
            for name, value in call.arguments.items()
        }
    except Misaligned:
        return None
    return Order(function.__module__, function.__name__, arguments, call.options)


class Misaligned(Exception):
    """A tensor does not begin at 16 bytes."""


def kind_of(value: Any) -> Any:
    """What of a run-time argument Triton compiles for: such a value, tensors as `Pointer`.

    Raises:
        Misaligned: a tensor is not at 16 bytes, which is none of the kinds.
    """
    if isinstance(value, torch.Tensor):
        if value.data_ptr() % 16:
            raise Misaligned
        return Pointer(value.dtype)
    if isinstance(value, TensorDescriptor):
        rank = len(value.shape)
        return TensorDescriptor, kind_of(value.base), rank, list(value.block_shape)
    if isinstance(value, bool) or not isinstance(value, (int, float, tuple)):
        return value
    if isinstance(value, float):
        return 0.5
    if isinstance(value, tuple):
        parts = [kind_of(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    wide = 1 << 40 if abs(value) >= 1 << 31 else 0
    return value if value == 1 else wide + (16 if value % 16 == 0 else 3)


def _given(kind: Any) -> Any:
    if isinstance(kind, Pointer):
        return torch.empty(16, dtype=kind.dtype, device="meta")
    if isinstance(kind, tuple) and kind and kind[0] is TensorDescriptor:
        _, base, rank, block = kind
        sizes = [16] * rank
        return TensorDescriptor(_given(base), sizes, [*sizes[1:], 1], block)
    if isinstance(kind, tuple):
        parts = [_given(part) for part in kind]
        return type(kind)(*parts) if hasattr(kind, "_fields") else tuple(parts)
    return kind


@functools.cache
def settle() -> None:
    """Have Triton hash every function of this package, before the first is launched.

    Its hash of a function depends on which of those that it calls were hashed before (3.6 and 3.7:
    `DependenciesFinder` takes their globals before it has them hashed), so that processes which
    launch in another order would not find each other's kernels.
    """
    for module in ("latents", "table"):
        importlib.import_module(f".{module}", __package__)
    for name in sorted(name for name in sys.modules if name.startswith(f"{__package__}.")):
        for _, value in sorted(vars(sys.modules[name]).items()):
            if isinstance(value, triton.JITFunction):
                _ = value.cache_key


# The parent --------------------------------------------------------------------------------------


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(calls: Iterable[Call], deadline: float = math.inf) -> int:
    """Compile what these launches need, so that each finds it in Triton's cache.

    The first ones here, for as long as they turn out to be there already; then by children.

    Args:
        calls: in the order of their use.
        deadline: of `time.monotonic()`; what was not begun by then is left to the launch.

    Returns:
        How many were left to children.
    """
    settle()
    if cores() < _FEWEST_CORES:
        return 0
    target = _target()
    found = {f"{target} {one}": one for call in calls if (one := order(call)) is not None}
    pending = deque(one for name, one in found.items() if name not in _known)
    count = min(cores(), _MOST_CHILDREN, len(pending) // 2)
    if count < 2:
        return 0
    _known.update(found)
    total = len(pending)
    while pending:
        began = time.monotonic()
        _compile(pending.popleft())
        _tell(total - len(pending), total)
        if time.monotonic() - began > _CACHED:
            break
    left = len(pending)
    given = (pending, total, deadline, target)
    threads = [threading.Thread(target=_feed, args=given) for _ in range(min(count, left))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        pending.clear()  # whoever is interrupted wants no more of it
    return left


def _target() -> Any:
    """What this thread's current GPU is to Triton."""
    return triton.runtime.driver.active.get_current_target()


def _feed(pending: deque[Order], total: int, deadline: float, target: Any) -> None:
    """Give orders to a child of this thread's until there are none left, or it has ended."""
    with contextlib.suppress(OSError, pickle.PicklingError), Child(target) as child:
        while time.monotonic() <= deadline:
            try:
                one = pending.popleft()
            except IndexError:
                return
            if not child.compile(one):
                return
            _tell(total - len(pending), total)


class Child:
    """A process that compiles, for a target of Triton's."""

    def __init__(self, target: Any) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        environment["CUDA_VISIBLE_DEVICES"] = ""  # a context would take memory, and time
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._send(target)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()

    def compile(self, one: Order) -> bool:
        """Whether the child is still there afterwards."""
        self._send(one)
        assert self._process.stdout is not None
        return bool(self._process.stdout.readline())

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(what, self._process.stdin)
        self._process.stdin.flush()


@contextlib.contextmanager
def told(progress: Progress) -> Iterator[None]:
    """Meanwhile whoever compiles ahead says how far it is."""
    _progress.append(progress)
    try:
        yield
    finally:
        _progress.remove(progress)


def _tell(done: int, total: int) -> None:
    for progress in list(_progress):
        progress(done, total)


# A child -----------------------------------------------------------------------------------------


def _compile(one: Order) -> None:
    """Leave it in Triton's cache, if it can be compiled."""
    with contextlib.suppress(Exception):
        call = one.call()
        call.function.warmup(grid=call.grid, **call.arguments, **one.options)


class _Elsewhere:
    """What Triton asks a driver while it compiles, of a GPU that is another process's."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def main() -> None:
    """Compile what comes in, and answer each order with a line."""
    orders, answers = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # whatever is printed meanwhile is no answer
    triton.runtime.driver.set_active(_Elsewhere(pickle.load(orders)))
    settle()
    while True:
        try:
            one = pickle.load(orders)
        except EOFError:
            return
        _compile(one)
        os.write(answers, b"done\n")


if __name__ == "__main__":
    main()
