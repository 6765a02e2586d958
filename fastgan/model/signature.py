"""What a model's inputs and outputs are: latent, label, image, mask, noise or scalar, and ranges.

`fastgan.export` states this in the file's metadata (`signature_metadata`). Files from elsewhere
state nothing, so it is guessed from types, shapes and names (`signature_guess`), and ranges from
the first and the last layers (`signature_ranges`), and the guesses are marked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:  # onnx_ir takes 0.4 s to import, and `fastgan.export` needs only the types here
    from collections.abc import Sequence


InputKind = Literal["latent", "label", "image", "mask", "noise", "scalar", "tensor"]
OutputKind = Literal["image", "tensor"]
Fill = Literal["white", "black"]
Distribution = Literal["normal", "uniform", "uniform_symmetric", "hypersphere"]
Shape = tuple[int | str | None, ...]
Port = TypeVar("Port", "Input", "Output")
Range = tuple[float, float]
#: Of each input, by name.
Shapes = dict[str, tuple[int, ...]]
Confidence = Literal["certain", "likely", "thin"]

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int64", "int32")

#: What StyleGAN's exports, and those of its kin, call the truncation of their own (psi), which is 1
#: for none (Karras et al., 2019, section 3 and appendix B).
TRUNCATIONS = ("psi", "truncation", "truncation_psi", "trunc", "trunc_psi", "truncate")


@dataclass(frozen=True, slots=True)
class Basis:
    """What a range that nothing states was guessed from."""

    confidence: Confidence
    why: str

    def __str__(self) -> str:
        return f"guessed, {self.confidence}: {self.why}"


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the graph.

    Attributes:
        kind: "scalar" is one number: of the whole run where the shape is () or (1,), else one for
            each sample, such as ("n",) or ("n", 1).
        shape: as declared, batch first; a name where the size is open. () where not even the rank
            is declared, but for a scalar.
        dtype: NumPy's name of the element type, such as "float32".
        distribution: what a latent or noise input is drawn from: "normal" is N(0, 1), "uniform"
            is [0, 1), "uniform_symmetric" is [-1, 1), "hypersphere" is uniform on the unit sphere.
        classes: how many classes a label has. An integer label is a class index, one per sample;
            a floating-point one is one-hot, [batch, classes].
        range: the values that an image or mask input is made of: black and white, or, beside a
            `mean`, the lowest and the highest of all channels.
        mean, std: where each channel has constants of its own: the input is (picture - mean) / std
            of a picture in [0, 1]. Empty where `range` says it all.
        basis: what `range` was guessed from; None where it is stated.
        fill: which part of a mask the model fills in; None where the file does not say.
        guessed: whether the file says nothing of this input.
        channels_last: the file has it as [batch, H, W, C]; `shape` is channels first all the same.
        default: what a scalar is where a caller gives none; None where one must be given.
        example: the height and width that an open size of an image or a mask is planned at, before
            any image says what it is.
    """

    name: str
    kind: InputKind
    shape: Shape
    dtype: str = "float32"
    distribution: Distribution | None = None
    classes: int | None = None
    range: Range | None = None
    guessed: bool = False
    fill: Fill | None = None
    channels_last: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    basis: Basis | None = field(default=None, compare=False)
    default: float | None = None
    example: tuple[int, int] = field(default=(64, 64), compare=False)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample's part; an open size is 1 (fully convolutional latents)."""
        return tuple(size if isinstance(size, int) else 1 for size in self.shape[1:])

    @property
    def is_empty(self) -> bool:
        """Whether it holds no numbers: the label [n, 0] of StyleGAN's unconditional exports."""
        return 0 in self.shape

    def __str__(self) -> str:
        classes = f"{self.classes} classes" if self.classes else None
        default = None if self.default is None else f"{self.default:g} if not given"
        return _line(self, self.distribution, classes, default)


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the graph; the attributes are those of `Input`.

    Attributes:
        range: the lowest and the highest value that stand for black and white.
        guessed: whether neither the file nor the last activation tells the range.
        apart: whether row i is made of sample i alone, whatever else is run with it. Else all
            samples that are asked for run together.
    """

    name: str
    kind: OutputKind
    shape: Shape
    dtype: str = "float32"
    range: Range = (-1.0, 1.0)
    guessed: bool = False
    channels_last: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    basis: Basis | None = field(default=None, compare=False)
    apart: bool = True

    def __str__(self) -> str:
        return _line(self, None if self.apart else "samples run together")


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, in the graph's order.

    Attributes:
        class_names: the name of each class of the label; empty where the file gives none.
        batch: the one that the graph was found to hold fixed, whatever its inputs declare.
        shared_draws: the nodes that draw numbers once for all samples (`plan.batch`).
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    class_names: tuple[str, ...] = ()
    batch: int | None = None
    shared_draws: frozenset[int] = frozenset()

    def first(self, kind: InputKind) -> Input | None:
        """The first input of a kind, or None."""
        return next((i for i in self.inputs if i.kind == kind), None)

    @property
    def latent(self) -> Input | None:
        """The first latent input, or None."""
        return self.first("latent")

    @property
    def label(self) -> Input | None:
        """The label input, or None."""
        return self.first("label")

    @property
    def image(self) -> Input | None:
        """The first image input, or None."""
        return self.first("image")

    @property
    def truncation(self) -> Input | None:
        """The scalar input that is the model's own truncation (psi), or None."""
        scalars = (i for i in self.inputs if i.kind == "scalar")
        return next((i for i in scalars if i.name.lower() in TRUNCATIONS), None)

    @property
    def needed(self) -> tuple[Input, ...]:
        """The inputs that no seed makes: images, masks, and scalars and tensors without a value."""
        made = ("latent", "noise", "label")
        ports = (i for i in self.inputs if i.kind not in made and not i.is_empty)
        return tuple(i for i in ports if i.default is None)

    def has_rows(self, port: Input) -> bool:
        """Whether an input has a row for each sample; else all of it goes into every run."""
        first = port.shape[0] if port.shape else None
        if port.kind == "scalar":
            return first not in (None, 1)
        if port.kind == "tensor":
            rows = not isinstance(first, int) or first == self.frozen_batch
            return bool(port.shape) and rows
        return True

    @property
    def made(self) -> Output:
        """The output that `generate` returns: the first image, or else the first."""
        return next((o for o in self.outputs if o.kind == "image"), self.outputs[0])

    @property
    def frozen_batch(self) -> int | None:
        """The batch that the graph holds fixed or the inputs declare; None where it is open."""
        if self.batch is not None:
            return self.batch
        apart = ("noise", "scalar", "tensor")
        batched = [i for i in self.inputs if i.kind not in apart and i.shape]
        return next((i.shape[0] for i in batched if isinstance(i.shape[0], int)), None)

    def with_open_batch(self) -> Signature | None:
        """The same with the frozen batch open; None where there is none, or what has it is unclear.

        A tensor of unknown kind whose first axis is as long may be one of samples, or not.
        """
        frozen = self.frozen_batch
        unclear = self.batch is None and any(
            i.kind == "tensor" and not i.is_empty and _leads(i, frozen or 0) for i in self.inputs
        )
        if frozen is None or unclear:
            return None
        return replace(
            self,
            batch=None,
            inputs=tuple(
                _opened(i) if _leads(i, frozen) and self.has_rows(i) else i for i in self.inputs
            ),
            outputs=tuple(
                replace(_opened(o) if _leads(o, frozen) else o, apart=True) for o in self.outputs
            ),
        )

    def describe(self) -> str:
        """One line per input and output, for people, and one for what a range was guessed from."""
        lines = ["inputs", *(line for i in self.inputs for line in _lines(i))]
        lines += ["outputs", *(line for o in self.outputs for line in _lines(o))]
        if self.class_names:
            lines.append("classes: " + ", ".join(self.class_names))
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()


def _leads(port: Input | Output, size: int) -> bool:
    return port.shape[:1] == (size,)


def _opened(port: Port) -> Port:
    return replace(port, shape=("batch", *port.shape[1:]))


def normalised_range(mean: Sequence[float], std: Sequence[float]) -> Range:
    """The lowest and the highest value that (picture - mean) / std has for pictures in [0, 1]."""
    pairs = list(zip(mean, std, strict=True))
    return min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)


def _line(port: Input | Output, *notes: str | None) -> str:
    shape = "[]" if port.kind == "scalar" and not port.shape else shape_text(port.shape)
    parts = [f"{port.name:<12} {port.kind:<7} {port.dtype} {shape}"]
    parts += [note for note in notes if note]
    parts += ["channels last in the file"] if port.channels_last else []
    if port.range is not None and port.kind != "tensor":
        parts.append(f"range {range_text(port)}")
    return ", ".join(parts) + (" (guessed)" if port.guessed else "")


def _lines(port: Input | Output) -> list[str]:
    """A port, and below it what its range was guessed from."""
    told = port.basis is not None and port.kind in ("image", "mask")
    return [f"  {port}", *([f"    range {port.basis}"] if told else [])]


def range_text(port: Input | Output) -> str:
    """The range of a port, and its channels' constants where it has them."""
    text = _row(port.range or (-1.0, 1.0))
    return f"{text}, mean {_row(port.mean)}, std {_row(port.std)}" if port.mean else text


def _row(numbers: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{number:g}" for number in numbers) + "]"


def shape_text(shape: Shape) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]" if shape else "of unknown shape"


def input_shapes(signature: Signature, batch: int) -> Shapes:
    """A shape for each input at this batch size.

    A frozen batch stays; an open height and width are the `example` of an image or a mask, its
    open channels 64; an open size is 1 for anything else.
    """
    shapes: Shapes = {}
    for port in signature.inputs:
        spatial = 64 if port.kind in ("image", "mask") else 1
        sizes = [size if isinstance(size, int) else spatial for size in port.shape]
        if port.kind in ("image", "mask"):
            for axis, size in enumerate(port.example[: len(sizes) - 2], 2):
                sizes[axis] = sizes[axis] if isinstance(port.shape[axis], int) else size
        if sizes and not isinstance(port.shape[0], int):
            sizes[0] = batch
        shapes[port.name] = tuple(sizes)
    return shapes
