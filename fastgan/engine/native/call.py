"""Steps that were lowered, as one call of csrc/runtime: each tensor in its place."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan.engine import arena
from fastgan.engine.arena import Lifetime
from fastgan.engine.faults import faults_of
from fastgan.engine.native.lowering import Lowering, Rows
from fastgan.engine.native.packing import Constant, Product, Shared
from fastgan.engine.native.records import CONSTANTS, NOTHING, Constants
from fastgan.engine.native.tensors import ALIGNMENT, ARENA, is_dense, new, plain
from fastgan.host import results
from fastgan.host.native import _native

#: What `Step.kernel` says of these steps.
KERNEL = "native"

#: So many numbers are looked at in less time than an operator of torch's takes.
_FEW = 64


@dataclass(frozen=True, slots=True)
class Lowered:
    """Steps as records, each tensor in its place.

    Attributes:
        inputs, outputs: the caller's tensors in the order of their slots: names, shapes, strides.
        arena: floats of all others.
        records: the operations (csrc/runtime/records/records.h).
    """

    inputs: tuple[tuple[str, Tensor], ...]
    outputs: tuple[tuple[str, Tensor], ...]
    arena: int
    records: bytes

    @staticmethod
    def of(low: Lowering, outputs: Sequence[str], rows: Sequence[str] = ()) -> Lowered:
        """Of steps that have been lowered.

        Args:
            low: has lowered them.
            outputs: names of the buffers that others read.
            rows: those of them that are to lie row by row, [N, C, H, W].
        """
        for name in outputs:
            low.read(name)  # an input of the plan may be read as its output alone
        inputs = [(name, low.read(name).meta) for name in low.inputs]
        slots = enumerate(outputs, 1 + len(inputs))
        made = [(name, _output(low, name, slot, name in rows)) for slot, name in slots]
        floats = _placed(low)
        records = b"".join(each.make() for each in low.planned)
        return Lowered(tuple(inputs), tuple(made), floats, records)


#: Memory of up to so many bytes stays: the most that glibc's threshold takes, but for a head.
_KEPT = 31 << 20


class Packed(Constants):
    """The constants of a call, but for the weights of products: those are packed one by one, and
    what each was packed from is gone before the next is read.

    Args:
        shared: has them, for all calls of the model.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self.shared = shared
        self._products: list[tuple[Product, int]] = []
        self._slots: dict[int, int] = {}  # by number

    def product(self, made: Product, most_minimal: int) -> list[tuple[int, int]]:
        """See `Constants.product`; nothing is read."""
        self._products.append((made, most_minimal))
        return [
            NOTHING if constant is None else self._weight(constant) for constant in made.constants
        ]

    def _weight(self, constant: Constant) -> tuple[int, int]:
        number = self.shared.number(constant)
        if number not in self._slots:
            self._slots[number] = len(self.tensors)
            self.tensors.append(constant.meta)
        return CONSTANTS + self._slots[number], 0

    def packed(self, bf16: bool) -> list[Any]:
        """The weights of all products, which somebody has to have until the operations do."""
        return [self.shared.pack(made, most, bf16) for made, most in self._products]

    def entries(self) -> list[tuple[int, int, int]]:
        """Address, size and number of each, as a `_native.runtime.Graph` takes them."""
        numbers = {slot: number for number, slot in self._slots.items()}
        return [
            (0 if tensor.is_meta else tensor.data_ptr(), tensor.numel(), numbers.get(slot, 0))
            for slot, tensor in enumerate(self.tensors)
        ]


class NativeCall:
    """Steps as one call: `call(*inputs)` is a tuple of outputs, each memory of its own.

    The plan's outputs lie as whoever runs it wants them, [N, C, H, W]: a copy of torch's would be
    made by threads that spin for a millisecond afterwards, on the cores that the next call needs.

    Args:
        low: has lowered the steps, its constants being `Packed`.
        outputs: names of the buffers that others read.
    """

    def __init__(self, low: Lowering, outputs: Sequence[str]) -> None:
        constants = low.constants
        assert isinstance(constants, Packed)
        made = Lowered.of(low, outputs, low.plan.outputs)
        self.inputs, self.outputs = tuple(name for name, _ in made.inputs), tuple(outputs)
        self._reads = [
            (
                torch.contiguous_format if meta.is_contiguous() else torch.channels_last,
                low.tables.get(name),
            )
            for name, meta in made.inputs
        ]
        self._made = [(meta.shape, meta.stride()) for _, meta in made.outputs]
        self._results = [results.maker(*sizes) for sizes in self._made]
        #: Whether every input is read row by row; and those that are of a table.
        self._plain = all(layout is torch.contiguous_format for layout, _ in self._reads)
        self._tables = [rows for _, rows in self._reads]
        packed = constants.packed(low.bf16)
        self._kept = constants.tensors  # what the operations point to
        self._graph = _native.runtime.Graph(
            records=made.records,
            arena=made.arena,
            tensors=[meta.numel() for _, meta in (*made.inputs, *made.outputs)],
            constants=constants.entries(),
            weights=constants.shared.native,
        )
        del packed  # which the operations have now
        _keep_memory()
        ends = [*low.ends[:-1], len(low.planned)]  # the last step with the outputs' copies
        self._ranges = list(zip([0, *ends], ends, strict=False))
        tiles = [self._graph.minimal(first, last) for first, last in self._ranges]
        #: What runs each step: by Winograd's filtering, m x m pixels each, where an m is named.
        self.kernels = [f"{KERNEL} F({m}x{m})" if m else KERNEL for m in tiles]

    def __call__(self, *inputs: Tensor, out: Tensor | None = None) -> tuple[Tensor, ...]:
        """The outputs; the first of them in `out`, if it lies as that does."""
        straight = self._straight(inputs) if out is None and self._plain else None
        if straight is None:
            tensors, made, kept = self._tensors(inputs, out)
            self._graph.run(tensors, torch.get_num_threads())
            del kept
            return made
        places, numbers = straight
        made = tuple([make() for make in self._results])
        for t in made:
            places.append(t.data_ptr())
        self._graph.run(places, torch.get_num_threads())
        del numbers
        return made

    def _straight(self, inputs: Sequence[Tensor]) -> tuple[list[int], list[array[float]]] | None:
        """The addresses of inputs that are read as they are, or are a few numbers of rows.

        What most calls have: a small network takes hardly longer than what `_tensors` does.

        Returns:
            None where another is among them; and what of them has other memory.
        """
        float32 = torch.float32
        places, others = [], []
        for x, rows in zip(inputs, self._tables, strict=True):
            if rows is not None:
                if x.numel() > _FEW:
                    return None
                numbers = array("f", _few_within(x, rows))
                others.append(numbers)
                places.append(numbers.buffer_info()[0])
            elif x.dtype is float32 and x.is_contiguous():
                places.append(x.data_ptr())
            else:
                return None
        return places, others

    def bound(self, inputs: Sequence[Tensor], out: Tensor) -> tuple[Callable[[], None], Tensor]:
        """The same on tensors that stay where they are, and its first output.

        out: where that goes, if it lies as that does.
        """
        places, made, kept = self._tensors(inputs, out)
        every = zip(inputs, kept, self._reads, strict=True)
        moved = [(x, y, rows) for x, y, (_, rows) in every if x is not y]
        run, threads = self._graph.run, torch.get_num_threads

        def call(_of_places: object = (kept, made)) -> None:
            for source, place, rows in moved:
                place.copy_(source if rows is None else _within(source, rows))
            run(places, threads())

        return call, made[0]

    def step_by_step(
        self, around: Callable[[int], AbstractContextManager[None]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """The same, with each step inside `around(its index)`."""
        tensors, made, kept = self._tensors(inputs)
        threads = torch.get_num_threads()
        memory = torch.empty(self._graph.floats(threads) + ALIGNMENT)
        address = arena.aligned(memory.data_ptr(), 4 * ALIGNMENT)
        for index, (first, last) in enumerate(self._ranges):
            with around(index):
                self._graph.run_some(address, tensors, first, last, threads)
        del kept
        return made

    def _tensors(
        self, inputs: Sequence[Tensor], out: Tensor | None = None
    ) -> tuple[list[int], tuple[Tensor, ...], list[Tensor]]:
        """The addresses of inputs and outputs, the outputs, and the inputs as they are read."""
        given, places = [], []
        for x, (layout, rows) in zip(inputs, self._reads, strict=True):
            read = x if rows is None else _within(x, rows)
            if read.dtype is not torch.float32 or not read.is_contiguous(memory_format=layout):
                read = read.to(torch.float32).contiguous(memory_format=layout)
            given.append(read)
            places.append(read.data_ptr())
        if out is not None:
            there = (out.shape, out.stride(), out.dtype, out.device.type)
            out = out if there == (*self._made[0], torch.float32, "cpu") else None
        made = [] if out is None else [out]
        made += [make() for make in self._results[len(made) :]]
        places += [y.data_ptr() for y in made]
        return places, tuple(made), given


@functools.cache
def _keep_memory() -> None:
    """Have the C library keep what torch's operators made between two calls for the next time.

    What is larger than a threshold glibc maps, and gives back, by itself: each page of it is a
    fault, at every call. The threshold follows what is given back (mallopt(3), M_MMAP_THRESHOLD),
    so it gets one piece of that size, which nobody has touched. Results have memory of their own
    (`fastgan.host.results`).
    """
    torch.empty(_KEPT, dtype=torch.uint8)


def _within(numbers: Tensor, rows: Rows) -> Tensor:
    """Numbers of rows; those below 0 count from the end.

    Raises:
        ArgumentError: there is no such row.
    """
    if numbers.numel() <= _FEW:
        within = torch.tensor(_few_within(numbers, rows), dtype=torch.float32)
        return within.reshape(numbers.shape)
    least, most = map(int, numbers.aminmax())
    _check(least, most, rows)
    return torch.where(numbers < 0, numbers + rows.count, numbers) if least < 0 else numbers


def _few_within(numbers: Tensor, rows: Rows) -> list[int]:
    """The same of a few, row by row."""
    listed: list[int] = (numbers if numbers.dim() == 1 else numbers.flatten()).tolist()
    least = min(listed)
    _check(least, max(listed), rows)
    return [x + rows.count if x < 0 else x for x in listed] if least < 0 else listed


def _check(least: int, most: int, rows: Rows) -> None:
    if least < -rows.count or most >= rows.count:
        with faults_of(rows.origin):
            wrong = most if most >= rows.count else least
            raise IndexError(f"index {wrong} is out of bounds for a table of {rows.count} rows")


def _output(low: Lowering, name: str, slot: int, by_rows: bool) -> Tensor:
    """Give an output a tensor of the caller's: as it lies, or else a copy.

    by_rows: it is to lie row by row.
    """
    view = low.read(name)
    root = view.root
    if root.slot != 0 or not view.whole or (by_rows and not view.meta.is_contiguous()):
        # Torch imports its compiler for what is like a tensor of no device.
        made = new(plain(view.shape) if by_rows else torch.empty_like(view.meta))
        if not is_dense(made.meta):
            made = new(plain(view.shape))
        low.copy(view, made)
        view, root = made, made.root
    root.slot = slot
    return plain(view.shape) if by_rows else view.meta  # which names the strides of axes of 1


def _placed(low: Lowering) -> int:
    """Place the roots of the arena; its size, in floats."""
    roots = {view.root: None for each in low.planned for view in each.views}
    named = {f"{index}": root for index, root in enumerate(roots) if root.slot == ARENA}
    lives = (Lifetime(name, 4 * r.size, r.first, r.last) for name, r in named.items())
    offsets, size = arena.place(lives, 4 * ALIGNMENT)
    for name, offset in offsets.items():
        named[name].offset = offset // 4
    return size // 4
