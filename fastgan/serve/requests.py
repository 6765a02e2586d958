"""What a request asks of a model: tensors and parameters by name, whichever server they came by.

| name | what | as |
|---|---|---|
| `n`, `seed`, `start`, `truncation`, `labels` | as in `Generator.generate` | parameter or tensor |
| an input of the model | rows of it: latents, classes, a scalar | tensor |
| its image inputs | FP32 [n, C, H, W] in its range, UINT8 [n, H, W, C], or BYTES [n] | tensor |

BYTES hold pictures as files do: PNG, JPEG and what else is read.

An output is the model's own, FP32 in its range; `<output>_uint8`, [n, H, W, C] in 0..255; and
`<output>_png`, BYTES [n].
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.images import files
from fastgan.images.formats import WRITTEN
from fastgan.images.pixels import to_pil
from fastgan.inputs.make import Inputs
from fastgan.latents.sampling import Sampling

if TYPE_CHECKING:
    from fastgan.generator import Generator

Array = np.ndarray[Any, Any]

#: Arguments that a request may have as parameters, and as tensors of the protocol's type.
ARGUMENTS = {
    "n": "INT64",
    "seed": "UINT64",
    "start": "INT64",
    "truncation": "FP32",
    "labels": "INT64",
}
_TYPES = {
    "float32": "FP32", "float16": "FP16", "float64": "FP64", "int8": "INT8", "int16": "INT16",
    "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "bool": "BOOL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for.

    Attributes:
        samples: images.
        pixels: of all images that go in, or come out, together.
        bytes: of its message.
    """

    samples: int = 64
    pixels: int = 64_000_000
    bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request, checked.

    Attributes:
        n: how many images.
        arguments: of `generate`, or of the call of an image-to-image model.
        images: the image that goes in; None for a model that takes none.
        outputs: the names that are wanted.
        rows: every input of the model, drawn; None where it is left to `generate`.
    """

    n: int
    arguments: Mapping[str, Any]
    images: Any
    outputs: tuple[str, ...]
    rows: Mapping[str, Tensor] | None = None


class Reader:
    """Reads requests for one model."""

    def __init__(self, generator: Generator, limits: Limits = Limits()) -> None:
        self._generator, self._limits = generator, limits
        self._signature = generator.signature
        self._inputs = Inputs(self._signature, generator.device)
        made = self._signature.made
        self._made = made.name
        channels = made.shape[1] if len(made.shape) == 4 else None
        picture = made.kind == "image" and channels in (1, 3, 4)
        self.outputs = {made.name: "FP32"}
        if picture:
            self.outputs |= {f"{made.name}_uint8": "UINT8", f"{made.name}_png": "BYTES"}
        self._usual = f"{made.name}_uint8" if picture else made.name

    @property
    def usual(self) -> str:
        """The output of a request that names none."""
        return self._usual

    def read(
        self, tensors: Mapping[str, Array], parameters: Mapping[str, Any], outputs: Sequence[str]
    ) -> Asked:
        """What is asked for.

        Raises:
            ArgumentError: a name that is none, a value that can't be, or more than may be asked.
        """
        for name in outputs:
            if name not in self.outputs:
                raise ArgumentError("outputs", repr(name), ", ".join(self.outputs))
        given = self._given(tensors, parameters)
        image = self._signature.image
        wanted = tuple(outputs) or (self._usual,)
        if image is not None:
            return self._pictures(given, image.name, wanted)
        n = self._count(given)
        self._check(n, self._sides())
        return Asked(n, given, None, wanted)

    def drawn(self, asked: Asked) -> Asked:
        """The same with every input drawn, so that it can be run beside others."""
        known = dict(asked.arguments)
        seed, start = known.pop("seed", 0), known.pop("start", 0)
        labels, truncation = known.pop("labels", None), known.pop("truncation", None)
        sampling = Sampling.of(seed, start, truncation)
        named, sampling = self._inputs.named(known, asked.n, sampling, labels)
        rows = self._inputs.make(asked.n, sampling, labels, named)
        return Asked(asked.n, asked.arguments, None, asked.outputs, rows)

    def _given(self, tensors: Mapping[str, Array], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments and inputs by name; the model's own names come first."""
        ports = {port.name for port in self._signature.inputs}
        found: dict[str, Any] = {}
        for name, value in (*parameters.items(), *tensors.items()):
            if name not in ports and name not in ARGUMENTS:
                known = ", ".join((*ARGUMENTS, *sorted(ports)))
                raise ArgumentError(name, "no such argument or input", known)
            if name in found:
                raise ArgumentError(name, "a tensor beside a parameter", "one of the two")
            found[name] = value if name in ports else _argument(name, value)
        return found

    def _count(self, given: dict[str, Any]) -> int:
        """How many images: as said, or as many as there are rows."""
        rows = [
            len(value)
            for name, value in given.items()
            if isinstance(value, (np.ndarray, list)) and np.ndim(value) and self._has_rows(name)
        ]
        said = given.pop("n", None)
        n = arguments.whole("n", max(rows, default=1) if said is None else said)
        if n > self._limits.samples:
            raise ArgumentError("n", f"{n} images", f"at most {self._limits.samples} in a request")
        return n

    def _has_rows(self, name: str) -> bool:
        ports = self._signature.inputs
        return name in ("seed", "start", "labels") or any(
            self._signature.has_rows(port) and port.kind != "scalar"
            for port in ports
            if port.name == name
        )

    def _sides(self) -> tuple[int, ...]:
        return tuple(s for s in self._signature.made.shape[2:] if isinstance(s, int))

    def _check(self, n: int, sides: Sequence[int]) -> None:
        pixels = n * int(np.prod(sides or (1,)))
        if pixels > self._limits.pixels:
            needed = f"at most {self._limits.pixels} in a request"
            raise ArgumentError("images", f"{pixels} pixels", needed)

    # Pictures ------------------------------------------------------------------------------------

    def _pictures(self, given: dict[str, Any], name: str, outputs: tuple[str, ...]) -> Asked:
        if "n" in given:
            raise ArgumentError("n", "a number for a model that takes pictures", "the pictures")
        if name not in given:
            raise ArgumentError(f"input {name!r}", "no value for this image", "a tensor of it")
        kinds = {p.name: p.kind for p in self._signature.inputs}
        for port, value in given.items():
            if kinds.get(port) in ("image", "mask"):
                given[port] = self._picture(port, value)
        images = given.pop(name)
        return Asked(len(images), given, images, outputs)

    def _picture(self, name: str, value: Any) -> Any:
        """Tensors as they are; encoded pictures read."""
        if value.dtype != np.object_:
            if value.ndim != 4 or not len(value):
                needed = "FP32 [n, C, H, W], UINT8 [n, H, W, C], or BYTES [n] of encoded pictures"
                raise ArgumentError(f"input {name!r}", arguments.text(value), needed)
            self._count({name: value})
            shape = value.shape[1:3] if value.dtype == np.uint8 else value.shape[2:]
            self._check(len(value), shape)
            return torch.from_numpy(np.array(value))
        encoded = [bytes(one) for one in value.reshape(-1)]
        if not encoded:
            raise ArgumentError(f"input {name!r}", "no pictures", "one or more")
        self._count({name: encoded})
        most = self._limits.pixels // len(encoded)
        return [files.read(one, f"input {name!r}, picture {i}", most).pixels for i, one in
                enumerate(encoded)]  # fmt: skip


def _argument(name: str, value: Any) -> Any:
    """A parameter or a tensor as Python has it: a number, or a list where there are several."""
    if isinstance(value, np.ndarray):
        flat = value.reshape(-1).tolist()
        flat = [one.decode(errors="replace") if isinstance(one, bytes) else one for one in flat]
        value = flat[0] if len(flat) == 1 else flat
    if isinstance(value, str) and name != "labels":
        # A parameter of gRPC is a truth value, an integer of 63 bits, or a text.
        try:
            value = float(value) if name == "truncation" else int(value)
        except ValueError:
            raise ArgumentError(name, repr(value[:40]), "a number") from None
    elif isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    return value


def made(
    generator: Generator, asked: Asked, batch_size: int | None = None
) -> Tensor | list[Tensor]:
    """Run a request by itself: what it makes as images, in the one form that is asked for first.

    Floats in the model's range, if its own output is wanted; else uint8 [n, H, W, C].

    Args:
        batch_size: of what is generated; None leaves it to the engine.
    """
    format = "float32" if generator.signature.made.name in asked.outputs else "uint8"
    if asked.images is None:
        return generator.generate(asked.n, batch_size=batch_size, format=format, **asked.arguments)
    images: Tensor | list[Tensor] = generator(asked.images, format=format, **asked.arguments)
    return images


def encode(images: Tensor) -> Array:
    """uint8 [n, H, W, C] as PNGs: an array of bytes [n]."""
    found = np.empty(len(images), dtype=object)
    for index, image in enumerate(to_pil(images)):
        file = io.BytesIO()
        image.save(file, "PNG", **WRITTEN["png"].quick)
        found[index] = file.getvalue()
    return found


def describe(generator: Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs as the protocol's metadata, with kinds, ranges and classes as parameters.

    Axes that are open are -1.
    """
    signature, reader = generator.signature, Reader(generator)
    inputs = []
    for port in signature.inputs:
        told: dict[str, Any] = {"kind": port.kind, "optional": port not in signature.needed}
        if port.kind == "latent":
            told["distribution"] = port.distribution or "normal"
        if port.range is not None:
            told["range"] = list(port.range)
        if port.kind == "label":
            told |= {"classes": port.classes, "class_names": list(signature.class_names)}
        if port.kind == "image":
            told["also"] = ["UINT8 [n, H, W, C]", "BYTES [n]: encoded pictures"]
        inputs.append(_tensor(port.name, _TYPES.get(port.dtype, "FP32"), port.shape, told))
    names = {port.name for port in signature.inputs}
    inputs += [
        _tensor(name, datatype, (-1,), {"kind": "argument", "optional": True})
        for name, datatype in ARGUMENTS.items()
        if name not in names and not (signature.image is not None and name == "n")
    ]
    out = signature.made
    shape = out.shape
    last = (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape
    shapes = {"FP32": shape, "UINT8": last, "BYTES": (-1,)}
    ranges = {"FP32": out.range, "UINT8": (0, 255), "BYTES": None}
    outputs = []
    for name, datatype in reader.outputs.items():
        told = {"kind": out.kind, "usual": name == reader.usual}
        if (range := ranges[datatype]) is not None:
            told["range"] = list(range)
        outputs.append(_tensor(name, datatype, shapes[datatype], told))
    return inputs, outputs


def _tensor(
    name: str, datatype: str, shape: Sequence[Any], parameters: dict[str, Any]
) -> dict[str, Any]:
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return {"name": name, "datatype": datatype, "shape": sizes, "parameters": parameters}
