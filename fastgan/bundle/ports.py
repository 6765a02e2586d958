"""A model's inputs and outputs as a bundle has them: in its own bytes, and back."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from fastgan.engine.native.records import listed
from fastgan.latents import LABEL_STREAM
from fastgan.model.signature import Distribution, Fill, Input, InputKind, Output, Signature

#: In the order of their numbers (`PortKind` and `Distribution` of csrc/bundle/bundle.h).
KINDS = get_args(InputKind)
DISTRIBUTIONS = get_args(Distribution)
FILLS: tuple[Fill, ...] = ("black", "white")


def text(value: str) -> bytes:
    """A text behind its length in bytes."""
    data = value.encode()
    return whole(len(data)) + data


def whole(*values: int) -> bytes:
    """Whole numbers of 8 bytes."""
    return struct.pack(f"<{len(values)}q", *map(int, values))


def written(signature: Signature) -> bytes:
    """The inputs, the outputs, and which output is generated."""
    inputs = [_input(signature, index) for index in range(len(signature.inputs))]
    outputs = [_port(port, 0, port.apart, False) for port in signature.outputs]
    made = signature.outputs.index(signature.made)
    return b"".join([whole(len(inputs)), *inputs, whole(len(outputs)), *outputs, whole(made)])


def _input(signature: Signature, index: int) -> bytes:
    """With the stream that `inputs.make` draws it from."""
    port = signature.inputs[index]
    stream = 0 if port is signature.latent else 2 + index
    stream = LABEL_STREAM if port.kind == "label" else stream
    return _port(port, stream, signature.has_rows(port), port is signature.truncation)


def _port(port: Input | Output, stream: int, rows: bool, truncates: bool) -> bytes:
    own = port if isinstance(port, Input) else None
    distribution = own and own.distribution
    classes = own.classes if own and own.classes is not None else -1
    default = own.default if own else None
    fill = own.fill if own else None
    sizes = [
        whole(size) + text("") if isinstance(size, int) else whole(-1) + text(size or "")
        for size in port.shape
    ]
    return b"".join(
        (
            text(port.name),
            whole(KINDS.index(port.kind)),
            text(port.dtype),
            whole(len(sizes)),
            *sizes,
            whole(DISTRIBUTIONS.index(distribution) if distribution else -1, classes),
            whole(port.range is not None),
            struct.pack("<2d", *(port.range or (0.0, 0.0))),
            listed(map(float, port.mean)),
            listed(map(float, port.std)),
            whole(port.guessed, FILLS.index(fill) if fill else -1, port.channels_last),
            whole(default is not None),
            struct.pack("<d", default or 0.0),
            whole(stream, rows, truncates),
        )
    )


def read(bundle: Any) -> Signature:
    """The signature of a `_native.bundle.Bundle`."""
    inputs = []
    for port in bundle.inputs:
        number, fill = port["distribution"], port["fill"]
        inputs.append(
            Input(
                kind=KINDS[port["kind"]],
                distribution=None if number < 0 else DISTRIBUTIONS[number],
                classes=None if port["classes"] < 0 else port["classes"],
                range=port["range"],
                fill=None if fill < 0 else FILLS[fill],
                default=port["default"],
                **_both(port),
            )
        )
    outputs = []
    for port in bundle.outputs:
        kind = KINDS[port["kind"]]
        outputs.append(
            Output(
                kind="image" if kind == "image" else "tensor",
                range=port["range"] or (-1.0, 1.0),
                apart=port["rows"],
                **_both(port),
            )
        )
    return Signature(tuple(inputs), tuple(outputs), tuple(bundle.classes))


def _both(port: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": port["name"],
        "shape": tuple(None if size == "" else size for size in port["shape"]),
        "dtype": port["dtype"],
        "guessed": port["guessed"],
        "channels_last": port["channels_last"],
        "mean": _numbers(port["mean"]),
        "std": _numbers(port["std"]),
    }


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, values))
