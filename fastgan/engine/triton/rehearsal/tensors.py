"""Tensors that say they are on a GPU, and what is done to them.

One holds a tensor on the CPU, with the same sizes and strides. Every operator of torch on it comes
by here, is held to CUDA's rules, and is done on that tensor.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastgan.engine.triton.rehearsal import faults
from fastgan.engine.triton.rehearsal.machine import Block, Machine, standing_in

_machine: Machine | None = None

#: Operators whose result's size depends on numbers, which the host has to wait for.
_WAITING = ("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive")

#: What draws from the generator, which a failed capture leaves captured (torch 2.8 to 2.11).
_RANDOM = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "randn", "rand")


class _Lease:
    """Lives as long as a tensor in a block does."""


class Rehearsed(torch.Tensor):
    """See the module. `host` is the tensor that holds its numbers, `block` its memory."""

    host: Tensor
    block: Block
    lease: _Lease

    @staticmethod
    def __new__(cls, inner: Tensor, block: Block, lease: _Lease) -> Rehearsed:
        made: Rehearsed = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=block.home.device,
        )
        made.host, made.block, made.lease = inner, block, lease
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _operate(function, args, kwargs or {})

    # These are asked of a tensor's C++ side, which has no memory.

    def data_ptr(self) -> int:
        return self.host.data_ptr()

    def untyped_storage(self) -> Any:
        return self.host.untyped_storage()

    def __getitem__(self, index: Any) -> Tensor:
        return _operate(_getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        part = self[index]
        part.copy_(value) if isinstance(value, Tensor) else part.fill_(value)

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        given = {"memory_format": memory_format}
        return _operate(torch.ops.aten.contiguous.default, (self,), given)

    def copy_(self, src: Tensor, non_blocking: bool = False) -> Tensor:
        return _operate(torch.ops.aten.copy_.default, (self, src, non_blocking), {})

    def __float__(self) -> float:
        return float(self.cpu())

    def __int__(self) -> int:
        return int(self.cpu())

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Rehearsed({self.host!r}, device={str(self.device)!r})"


class _Schema:
    """Of an operator that has none."""

    name = "getitem"
    arguments: tuple[Any, ...] = ()


class _GetItem:
    _schema = _Schema()

    def __call__(self, tensor: Tensor, index: Any) -> Tensor:
        return tensor[index]


_getitem = _GetItem()


def of_blocks(value: Any) -> list[Rehearsed]:
    """The rehearsed tensors in a value, through tuples, lists and Triton's descriptors."""
    if isinstance(value, Rehearsed):
        return [value]
    if isinstance(value, (tuple, list)):
        return [found for each in value for found in of_blocks(each)]
    if isinstance(value, dict):
        return [found for each in value.values() for found in of_blocks(each)]
    if hasattr(value, "base") and hasattr(value, "block_shape"):
        return of_blocks(value.base)
    return []


def _inner(value: Any) -> Any:
    return value.host if isinstance(value, Rehearsed) else value


def _here() -> Machine:
    if _machine is None:
        raise RuntimeError("a rehearsed tensor outside of its rehearsal")
    return _machine


def _new(machine: Machine, like: Tensor, device: int) -> Rehearsed:
    """Memory for a tensor of these sizes and strides."""
    extent = 0
    if like.numel():
        extent = 1 + sum((n - 1) * s for n, s in zip(like.shape, like.stride(), strict=True))
    block, raw = machine.allocate(extent * like.element_size() + 16, device)
    flat = torch.empty(0, dtype=like.dtype).set_(raw.untyped_storage())
    return _owned(flat.as_strided(like.shape, like.stride(), 0), block)


def _owned(inner: Tensor, block: Block) -> Rehearsed:
    lease = _Lease()
    weakref.finalize(lease, block.free).atexit = False
    return Rehearsed(inner, block, lease)


def _operate(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    machine = _here()
    name = function._schema.name.removeprefix("aten::")
    given = of_blocks([*args, *kwargs.values()])
    written = _written(function, args, kwargs)
    device = given[0].block.device if given else machine.device
    if len({one.block.device for one in given}) > 1 and name not in ("copy_", "_to_copy", "to"):
        raise RuntimeError("Expected all tensors to be on the same device")
    places = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.device)]
    target = places[0] if places else None
    if target is not None:
        cpu = torch.device("cpu")
        args = [cpu if isinstance(one, torch.device) else one for one in args]
        kwargs = {n: cpu if isinstance(one, torch.device) else one for n, one in kwargs.items()}
    if name == "copy_":
        _copying(machine, args)
    elif target is not None and target.type == "cpu":
        machine.wait("a copy to the host", machine.stream(device))
    if name in _WAITING or (name == "index" and _by_mask(args)):
        machine.wait(f"{name}, whose size depends on numbers")
    if name in _RANDOM and machine.random_is_captured and machine.capture is None:
        raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
    if target is not None and target.type == "cuda":
        device = machine.device if target.index is None else target.index
    flat_args, flat_kwargs = pytree.tree_map((_inner), (list(args), kwargs))

    def call() -> Any:
        return function(*flat_args, **flat_kwargs)

    if written:
        return _in_place(machine, name, device, given, written, args, call)
    result = call()
    tensors = [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]
    if not tensors:
        machine.wait(name, machine.stream(device))
        return result
    if target is not None and target.type == "cpu":
        return pytree.tree_map(lambda leaf: leaf.clone(), result)
    return _made(machine, name, device, given, result, call)


def _written(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Rehearsed]:
    """The arguments that an operator writes, by its schema."""
    found = []
    for position, argument in enumerate(function._schema.arguments):
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += of_blocks(value)
    return found


def _copying(machine: Machine, args: Sequence[Any]) -> None:
    to, source = args[0], args[1]
    if not isinstance(source, Rehearsed):
        pinned = getattr(source, "_rehearsed_pinned", False)
        if machine.captures_of_thread and not pinned:
            machine.forbid("a copy from pageable memory")
        if not _is_asynchronous(source, args):
            machine.wait("a copy from the host", machine.stream(to.block.device))
    elif not isinstance(to, Rehearsed) and not _is_asynchronous(to, args):
        machine.wait("a copy to the host", machine.stream(source.block.device))


def _is_asynchronous(host: Tensor, args: Sequence[Any]) -> bool:
    """Whether a copy to or from it leaves the host to go on."""
    return len(args) > 2 and bool(args[2]) and getattr(host, "_rehearsed_pinned", False)


def _by_mask(args: Sequence[Any]) -> bool:
    masks = args[1] if len(args) > 1 else ()
    return any(isinstance(m, Tensor) and m.dtype in (torch.bool, torch.uint8) for m in masks)


def _in_place(
    machine: Machine,
    name: str,
    device: int,
    given: list[Rehearsed],
    written: list[Rehearsed],
    args: Sequence[Any],
    call: Callable[[], Any],
) -> Any:
    """Work on memory that is there: in a capture it is recorded, and not done."""
    ids = {id(one) for one in written}
    blocks = [(one.block, id(one) in ids) for one in given]
    if name == "copy_" and not isinstance(args[0], Rehearsed):
        if not _is_asynchronous(args[0], args):
            call()
            return args[0]
        seen, copied, source = args[0], args[0].clone(), given[0].host

        def copy() -> None:
            copied.copy_(source)
            machine.unseen.append((seen, copied))

        machine.submit("op copy_", [(given[0].block, False)], device, copy)
        return args[0]
    machine.submit(f"op {name}", blocks, device, lambda: void(call()))
    return written[0] if len(written) == 1 else tuple(written)


def void(_: object) -> None:
    """Drop a result."""


def _made(
    machine: Machine,
    name: str,
    device: int,
    given: list[Rehearsed],
    result: Any,
    call: Callable[[], Any],
) -> Any:
    """The results of an operator: views of what it was given, or memory of their own."""
    owners = {one.host.untyped_storage().data_ptr(): one for one in given}
    fresh: list[tuple[int, Rehearsed]] = []
    leaves, spec = pytree.tree_flatten(result)
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, Tensor):
            continue
        owner = owners.get(leaf.untyped_storage().data_ptr()) if leaf.numel() else None
        if owner is not None:
            same = leaf is owner.host
            leaves[index] = owner if same else Rehearsed(leaf, owner.block, owner.lease)
        else:
            made = _new(machine, leaf, device)
            fresh.append((index, made))
            leaves[index] = made
    if fresh:
        # The recorded work holds addresses, and no tensor that keeps them alive.
        places = [(index, made.host) for index, made in fresh]
        blocks = [(one.block, False) for one in given] + [(made.block, True) for _, made in fresh]
        captured = machine.graphs.get(machine.stream(device).id) is not None
        done = [] if captured else [result]

        def work() -> None:
            values = pytree.tree_leaves(done.pop() if done else call())
            for index, place in places:
                place.copy_(values[index])

        machine.submit(f"op {name}", blocks, device, work)
    return pytree.tree_unflatten(leaves, spec)


# Made from nothing --------------------------------------------------------------------------------


def _empty(
    size: Any, dtype: Any = None, layout: Any = None, device: Any = None,
    pin_memory: Any = None, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    like = torch.empty(
        size,
        dtype=dtype or torch.get_default_dtype(),
        device="cpu",
        memory_format=memory_format or torch.contiguous_format,
    )
    return _new(_here(), like, _index(device))


def _empty_strided(
    size: Any, stride: Any, dtype: Any = None, layout: Any = None, device: Any = None,
    pin_memory: Any = None,
) -> Tensor:  # fmt: skip
    kind = dtype or torch.get_default_dtype()
    return _new(
        _here(), torch.empty_strided(size, stride, dtype=kind, device="cpu"), _index(device)
    )


def _index(device: Any) -> int:
    index = torch.device(device).index
    return _here().device if index is None else index


_library: Any = None


def _register() -> None:
    """Once for the process: CUDA tensors from nothing, of which a build without CUDA has none."""
    global _library
    if _library is None:
        _library = torch.library.Library("aten", "IMPL")
        _library.impl("empty.memory_format", _empty, "CUDA")
        _library.impl("empty_strided", _empty_strided, "CUDA")


def _from_host(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor and the like: made on the host, from where they are copied."""

    def make(data: Any, *, dtype: Any = None, device: Any = None, **rest: Any) -> Tensor:
        if isinstance(data, Rehearsed):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        place = torch.device(device) if device is not None else torch.get_default_device()
        made = real(data, dtype=dtype, device="cpu", **rest)
        return made if place.type == "cpu" else made.to(device=place)

    return make


def _to(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.Tensor.to with an index on each device, which a build without CUDA can't add."""

    def indexed(value: Any) -> Any:
        if value == "cuda" or (isinstance(value, torch.device) and value == torch.device("cuda")):
            return torch.device("cuda", _here().device)
        return value

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        named = {name: indexed(value) for name, value in kwargs.items()}
        return real(self, *map(indexed, args), **named)

    return to


def _pinned(self: Tensor, *_: Any) -> Tensor:
    made = self.clone()
    made._rehearsed_pinned = True  # type: ignore[attr-defined]
    return made


@contextlib.contextmanager
def of(machine: Machine) -> Iterator[None]:
    """Tensors on "cuda" are this machine's."""
    global _machine
    if _machine is not None:
        raise RuntimeError("a rehearsal within another one")
    _register()
    torch._C._ensureCUDADeviceGuardSet()
    _machine = machine
    try:
        with (
            standing_in(
                torch, tensor=_from_host(torch.tensor), as_tensor=_from_host(torch.as_tensor)
            ),
            standing_in(torch.Tensor, to=_to(torch.Tensor.to), pin_memory=_pinned),
        ):
            yield
    finally:
        _machine = None


def faulty(machine: Machine, name: str, given: list[Rehearsed], run: Callable[[], None]) -> Any:
    """`run` with a kernel's faults: those of its launch now, those of its result as it runs."""
    for fault in machine.struck(name, *faults.BEFORE, "hang", "crash"):
        faults.before(fault.kind)
    hosts = [one.host for one in given]

    def work() -> None:
        struck = machine.struck(name, "wrong", "bits", "overrun", "illegal")
        before = [one.clone() for one in hosts] if struck else []
        run()
        changed = [
            now
            for now, was in zip(hosts, before, strict=False)
            if not torch.equal(_bytes(now), _bytes(was))
        ]
        for fault in struck:
            faults.after(fault.kind, changed, fault.seen)
            if fault.kind == "illegal":
                machine.sticky = faults.ILLEGAL

    return work


def _bytes(x: Tensor) -> Tensor:
    return x.contiguous().view(-1).view(torch.uint8)
