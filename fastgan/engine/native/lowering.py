"""A plan's steps as operations of csrc/runtime: what each reads, where it writes, in what layout.

Every operation takes tensors by their strides; those that need channels side by side get a copy
where they are not. Parts of a concatenation are written in place, and what only names the same
numbers otherwise (`Op.strided`) is no operation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan import ops
from fastgan.engine.faults import FAULTS
from fastgan.engine.native.records import NOTHING, Constants, Kind, listed, record
from fastgan.engine.native.tensors import Root, View, channels_last, is_dense, new, plain
from fastgan.errors import UnsupportedError
from fastgan.host.native import _native
from fastgan.plan import Plan, Step
from fastgan.plan.weights import meta_of

#: Makes an operation's record once every tensor has its place.
Make = Callable[[], bytes]

#: Steps that take images with the channels of a pixel side by side.
_BY_PIXEL = {
    "fastgan.Conv",
    "fastgan.ConvTranspose",
    "Resize",
    "Upsample",
    "Pad",
    "AveragePool",
    "MaxPool",
    "GlobalAveragePool",
}

#: Steps whose result best lies as what they read.
_ALIKE = {"fastgan.Pointwise", "Concat", "Slice", "Split"}


@dataclass(frozen=True)
class Planned:
    """An operation to be made, and what it reads and writes."""

    make: Make
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table, and the ONNX nodes of the first step that takes some of them."""

    count: int
    origin: tuple[str, ...]


class Lowering:
    """Turns steps into operations, one after another.

    Args:
        plan: in fp32, its elementwise steps merged (`fastgan.plan.merge`).
        opset: of the model that it was made of.
        constants: where its weights go.
        labels: whether inputs of whole numbers may be read, as floats.
        bf16: whether products that sum over channels take their factors in bf16.
    """

    def __init__(
        self,
        plan: Plan,
        opset: int,
        constants: Constants | None = None,
        *,
        labels: bool = False,
        bf16: bool = False,
    ) -> None:
        self.plan, self.opset, self.bf16 = plan, opset, bf16
        self.native = _native.runtime
        self.planned: list[Planned] = []
        self.views: dict[str, View] = {}
        self.inputs: list[str] = []  # buffers that other steps make, in the order of their slots
        self.constants = Constants() if constants is None else constants
        self.labels = labels
        self.tables: dict[str, Rows] = {}  # that inputs of whole numbers are numbers of
        self.ends: list[int] = []  # how many operations there are behind each step
        self._made = {name: step for step in plan.steps for name in step.outputs}
        #: What each concatenation is of: names of buffers and weights.
        self.parts: dict[str, tuple[str, ...]] = {}
        self._copies: dict[tuple[int, bool], tuple[View, View]] = {}
        self._targets: dict[str, tuple[str, int, int]] = {}
        self._moved: list[tuple[View, View]] = []  # what a step wrote, and where it is to be
        self._pixels = _read_by_pixel(plan)
        self._plan_concatenations()

    def lower(self, step: Step, lower: Callable[[Lowering, Step], None]) -> None:
        """Add a step's operations; `lower` is what knows its operator.

        Raises:
            UnsupportedError: there is no native code for it; nothing is added.
        """
        count, views = len(self.planned), dict(self.views)
        try:
            for name in step.outputs:
                if self.plan.buffers[name].dtype != torch.float32:
                    raise unsupported(step, f"numbers of {self.plan.buffers[name].dtype}")
            lower(self, step)
            for made, place in self._moved:
                self.copy(made, place)
        except FAULTS as error:  # the library will say what it is about, if it can't either
            del self.planned[count:]
            self.views = views
            if isinstance(error, UnsupportedError):
                raise unsupported(step, error.found) from error
            raise unsupported(step, f"{type(error).__name__}: {error}") from error
        finally:
            self._moved.clear()
        self.ends.append(len(self.planned))

    def add(self, make: Make, *views: View | None) -> None:
        """An operation, and the tensors that it reads and writes."""
        given = tuple(view for view in views if view is not None)
        for view in given:
            view.root.used(len(self.planned))
        self.planned.append(Planned(make, given))

    # What steps read.

    def read(self, name: str, *, whole: bool = False) -> View:
        """A buffer, or a weight as a constant.

        whole: numbers that may be whole ones, which are read as floats.
        """
        if name in self.plan.buffers and name not in self.views:
            buffer = self.plan.buffers[name]
            label = self.labels and (whole or name in self.plan.inputs)
            if buffer.dtype != torch.float32 and (buffer.dtype.is_floating_point or not label):
                raise UnsupportedError(name, f"numbers of {buffer.dtype}", "float32")
            if name not in self.inputs:
                self.inputs.append(name)
            # Images of other steps lie channels last, the caller's do not.
            last = name not in self.plan.inputs and name in self._pixels and len(buffer.shape) == 4
            meta = channels_last(buffer.shape) if last else plain(buffer.shape)
            slot = 1 + self.inputs.index(name)
            self.views[name] = View(Root(meta.numel(), slot=slot), meta)
        elif name not in self.views:
            weight = self.plan.weights[name]
            if not (whole or weight.is_floating_point()):
                raise UnsupportedError(f"weight {name!r}", str(weight.dtype), "a float")
            self.views[name] = self.constant(weight)
        return self.views[name]

    def constant(self, tensor: Tensor) -> View:
        """A constant, in fp32."""
        kept = tensor.detach().float().contiguous()
        slot = self.constants.slot(kept)
        return View(Root(kept.numel(), constant=True, slot=slot), plain(kept.shape))

    def images(self, view: View) -> View:
        """[N, C, *sizes] with the channels of a pixel side by side."""
        beside = view.shape[1] == 1 or view.meta.stride(1) == 1
        return view if beside else self._copy(view, True)

    def rows(self, view: View) -> View:
        """Row by row."""
        return view if view.meta.is_contiguous() else self._copy(view, False)

    def _copy(self, view: View, last: bool) -> View:
        key = (id(view), last)
        if key not in self._copies:
            made = new(channels_last(view.shape) if last else plain(view.shape))
            self.copy(view, made)
            self._copies[key] = (made, view)  # the view too: its id is the key
        return self._copies[key][0]

    # Where they write.

    def _plan_concatenations(self) -> None:
        """Have the parts of concatenations written in place, those that are no one else's.

        One whose parts follow each other in a later one too, as in dense blocks, is a part there.
        """
        made = self._made
        known: list[tuple[int, tuple[str, ...], str]] = []  # axis, parts and name of each
        for step in self.plan.steps:
            if step.op != "Concat" or step.outputs[0] in self.plan.inputs:
                continue
            out = self.plan.buffers[step.outputs[0]]
            axis = step.attributes.get("axis", 1) % len(out.shape)
            parts = tuple(step.inputs)
            for other, inner, name in reversed(known):  # what holds others is behind them
                if other == axis and name not in self._targets:
                    parts = _replaced(parts, inner, name)
            known.append((axis, tuple(step.inputs), step.outputs[0]))
            self.parts[step.outputs[0]] = parts
            first = 0
            for name in parts:
                size = self._shape(name)[axis]
                if name in made and name not in self._targets and name not in self.plan.outputs:
                    self._targets[name] = (step.outputs[0], axis, first)
                first += size

    def parts_of(self, step: Step) -> Iterator[str]:
        """What a concatenation is made of here: names of buffers and weights in order."""
        for name in self.parts.get(step.outputs[0], step.inputs):
            whole = name in step.inputs or name in self.views
            yield from (name,) if whole else self.parts_of(self._made[name])

    def _shape(self, name: str) -> Sequence[int]:
        buffer = self.plan.buffers.get(name)
        return meta_of(self.plan.weights, name).shape if buffer is None else buffer.shape

    def write_images(self, name: str) -> View:
        """Where [N, C, *sizes] is to be written, the channels of a pixel side by side for sure."""
        view = self.write(name, len(self.plan.buffers[name].shape) > 2)
        if view.shape[1] == 1 or view.meta.stride(1) == 1:
            return view
        self._moved.append((new(channels_last(view.shape)), view))
        return self._moved[-1][0]

    def write_rows(self, name: str) -> View:
        """Where a buffer is to be written row by row for sure."""
        view = self.write(name, like=plain(self.plan.buffers[name].shape))
        if view.meta.is_contiguous():
            return view
        self._moved.append((new(plain(view.shape)), view))
        return self._moved[-1][0]

    def write(self, name: str, by_pixel: bool = False, like: Tensor | None = None) -> View:
        """Where a buffer is to be written: with channels side by side where that is read so.

        A part of a concatenation lies as that does, whatever is asked for.

        Args:
            name: the buffer.
            by_pixel: [N, C, *sizes] with channels side by side, whoever reads it.
            like: lie as this does where nothing asks for channels; row by row if it is of another
                shape. With None, images lie channels last, all else row by row.
        """
        if name in self.views:
            return self.views[name]
        shape = self.plan.buffers[name].shape
        if name in self._targets:
            outer, axis, first = self._targets[name]
            rows = like is not None and not by_pixel
            made = self.write(outer, like=plain(self.plan.buffers[outer].shape) if rows else None)
            view = made.narrow(axis, first, shape[axis])
        elif len(shape) > 2 and (by_pixel or name in self._pixels):
            view = new(channels_last(shape))
        elif like is None:
            view = new(channels_last(shape) if len(shape) > 3 else plain(shape))
        elif like.shape == torch.Size(shape) and is_dense(like):
            view = new(torch.empty_strided(like.shape, like.stride(), device="meta"))
        else:
            view = new(plain(shape))
        self.views[name] = view
        return view

    def lies_freely(self, name: str) -> bool:
        """Whether a buffer may lie in any order: it is no part of another, and nobody reads its
        channels side by side.
        """
        return name not in self._pixels and name not in self._targets

    def name(self, name: str, view: View) -> None:
        """A buffer that is another view of what is there, or a copy where it has a place."""
        if name in self._targets:
            self.copy(view, self.write(name))
        else:
            self.views[name] = view

    def copy(self, x: View, y: View) -> None:
        """x into y, of one shape."""
        self.pointwise([("load", 0.0, 0, -1, -1)], [x], y)

    def pointwise(
        self, program: Sequence[tuple[str, float, int, int, int]], tensors: list[View], y: View
    ) -> None:
        """A program of (operation, number, tensor, kept, keep) on tensors that broadcast to y."""
        n = self.native
        codes, curves = n.Code.__members__, n.Curve.__members__
        steps: list[Any] = []
        for operation, number, tensor, at, keep in program:
            code = codes.get(operation, n.Code.curve)
            curve = curves["none"] if operation in codes else curves.get(operation)
            if curve is None:
                raise UnsupportedError(f"function {operation}", "none of the native code's", "one")
            steps.append((code, curve, float(number), tensor, at, keep))
        wide = [x.of(x.meta.expand(y.shape)) for x in tensors]

        def make() -> bytes:
            return record(
                Kind.POINTWISE,
                listed(y.shape),
                len(wide),
                [listed(view.meta.stride()) for view in (y, *wide)],
                len(steps),
                steps,
                y.place,
                [x.place for x in tensors],
            )

        self.add(make, y, *tensors)

    def border(self, name: str) -> int:
        """The number of a border."""
        return int(self.native.Border.__members__[name])

    # What they do to their result.

    def epilogue(
        self, step: Step, y: View, residual: View | None, scale: View | None = None
    ) -> tuple[bytes, View | None, View | None]:
        """An epilogue's fields, and residual and scale as it reads them.

        residual: broadcasts to y. scale: [N or 1, C, 1, ...].
        """
        given = step.epilogue
        curve = self.native.Curve.__members__.get(given.activation)
        if curve is None:
            raise unsupported(step, f"activation {given.activation}")
        slopes = None
        if given.slopes:
            slopes = self.constants.place(
                torch.tensor(given.slopes).expand(y.shape[1]).contiguous()
            )
        strides = [0, 0, 0, 1]
        if residual is not None:
            wide = residual.meta.expand(y.shape)
            if wide.dim() > 1 and wide.shape[1] > 1 and wide.stride(1) not in (0, 1):
                residual = self.images(residual)
                wide = residual.meta.expand(y.shape)
            image, channel, row, pixel = _four(residual.of(wide).strides)
            if wide.dim() > 1 and wide.shape[1] == 1:
                channel = 1
            strides = [image, row, pixel, channel]
        scale_image = 0
        if scale is not None:
            scale = self.rows(scale)
            scale_image = scale.strides[0]
        return epilogue(curve, given.slope, slopes, scale_image, strides), residual, scale

    def input(self, step: Step, position: int) -> View | None:
        """What a step reads there, if anything."""
        name = (*step.inputs, *[""] * 8)[position]
        return self.read(name) if name else None


def _replaced(parts: tuple[str, ...], run: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Parts with a name in place of the first run of others, if they have it."""
    for i in range(len(parts) - len(run) + 1):
        if parts[i : i + len(run)] == run:
            return (*parts[:i], name, *parts[i + len(run) :])
    return parts


def _read_by_pixel(plan: Plan) -> set[str]:
    """The buffers that are read as images, by themselves or as part of what is computed of them."""
    found: set[str] = set()
    for step in reversed(plan.steps):
        norm = step.op == "fastgan.Normalise" and step.attributes["over"] != "last"
        alike = step.op in _ALIKE and not found.isdisjoint(step.outputs)
        if norm or alike or step.op in _BY_PIXEL:
            found.update(step.inputs)
    return found


def epilogue(
    curve: Any,
    parameter: float = 0.0,
    slopes: tuple[int, int] | None = None,
    scale_image: int = 0,
    residual: Sequence[int] = (0, 0, 0, 1),
) -> bytes:
    """The fields of `Epilogue` of csrc/runtime/kernels/kernels.h.

    Args:
        curve: a `_native.runtime.Curve`.
        residual: from one image, row, pixel and channel of it to the next.
    """
    numbers = (int(curve), float(parameter), *(slopes or NOTHING), scale_image, *residual)
    return struct.pack("<qdqqqqqqq", *numbers)


def grid(view: View) -> list[int]:
    """Height, width, channels, and the strides of an image, a row and a pixel."""
    _, channels, height, width = sizes_of(view)
    image, _, row, pixel = _four(view.strides)
    return [height, width, channels, image, row, pixel]


def sizes_of(view: View) -> tuple[int, int, int, int]:
    """[N, C, H, W] of rows, sequences or images."""
    n, c, h, w = _four(list(view.shape), 1)
    return n, c, h, w


def _four(numbers: list[int], missing: int = 0) -> list[int]:
    if len(numbers) > 4:
        raise UnsupportedError("a tensor", f"{len(numbers)} axes", "at most 4")
    first, rest = numbers[:2], numbers[2:]
    return [*first, *[missing] * (2 - len(first)), *[missing] * (2 - len(rest)), *rest]


def slices(step: Step, view: View) -> View:
    """A volume as an image, its slices one below the other; what is none as it is.

    Raises:
        UnsupportedError: they lie apart.
    """
    if len(view.shape) < 5:
        return view
    try:
        return view.of(view.meta.view(*view.shape[:2], -1, view.shape[4]))
    except RuntimeError:
        raise unsupported(step, "a volume whose slices lie apart") from None


def place(view: View | None) -> tuple[int, int]:
    """Where a tensor is, if there is one."""
    return NOTHING if view is None else view.place


def unsupported(step: Step, found: str) -> UnsupportedError:
    """Why there is no native code for a step."""
    return UnsupportedError(" + ".join(step.origin), found, "native code for it")


def reference(step: Step, plan: Plan, opset: int) -> tuple[Callable[..., Any], list[Any]]:
    """A step's operator, its attributes bound, and its inputs, those that are no tensors given.

    Inputs that depend on data are None.
    """
    op = ops.find("", step.op, opset)
    assert op is not None
    found: list[Any] = []
    for position, name in enumerate(step.inputs):
        weight = plan.weights.get(name) if name else None
        found.append(weight.tolist() if weight is not None and position in op.host else weight)
    attributes = dict(step.attributes)
    return lambda *given, **more: op.function(*given, **{**attributes, **more}), found
