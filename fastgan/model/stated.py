"""What a model file states of its inputs and outputs, read and written.

It is one JSON document under the key `fastgan.signature` of the model's `metadata_props`:

    {"version": 1,
     "inputs":  [{"name": "z", "kind": "latent", "distribution": "normal"},
                 {"name": "y", "kind": "label", "classes": 10},
                 {"name": "x", "kind": "image", "range": [-1, 1]}],
     "outputs": [{"name": "output", "kind": "image", "range": [-1, 1]}],
     "class_names": ["zero", "one", "two", "..."]}

In place of a range, an image may have "mean" and "std", a list of one number for each channel: it
is then (picture - mean) / std of a picture in [0, 1].

Shapes and types are the graph's own. Everything but `version`, `name` and `kind` is optional, an
input or output that is not listed is guessed, and keys that are not known here are ignored. A
scalar may have a "default": what it is where no value is given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args

from fastgan.errors import ArgumentError, ModelFileError
from fastgan.model.signature import (
    FLOATS,
    INTEGERS,
    Distribution,
    Fill,
    Input,
    InputKind,
    Output,
    OutputKind,
    Range,
    Signature,
    normalised_range,
    shape_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx_ir as ir

KEY = "fastgan.signature"
VERSION = 1

_Fields = dict[str, Any]
_Port = TypeVar("_Port", Input, Output)


def dump(signature: Signature) -> str:
    """The document that states `signature`."""

    def entry(port: Input | Output) -> _Fields:
        values = ("mean", "std") if port.mean else ("range",)
        fields = ("name", "kind", "distribution", "classes", *values, "fill", "default")
        stated = {field: getattr(port, field, None) for field in fields}
        return {field: value for field, value in stated.items() if value is not None}

    document: _Fields = {
        "version": VERSION,
        "inputs": [entry(i) for i in signature.inputs],
        "outputs": [entry(o) for o in signature.outputs],
    }
    if signature.class_names:
        document["class_names"] = list(signature.class_names)
    return json.dumps(document)


def correct(guess: Signature, model: ir.Model) -> Signature:
    """The guessed signature, with what the metadata of `model` states in its place.

    Raises:
        ModelFileError: the metadata is malformed, contradicts the graph, or is of a later version.
    """
    text = model.metadata_props.get(KEY)
    return guess if text is None else _apply(guess, text)


def override(signature: Signature, document: Mapping[str, Any]) -> Signature:
    """The signature, with what a caller states in its place: a document without its version.

    An entry without a name is of every port of its kind, and one without a kind leaves that.

    Raises:
        ArgumentError: the document is malformed or contradicts the graph.
    """
    try:
        named = {
            **document,
            **{
                group: _named(group, document[group], ports)
                for group, ports in (("inputs", signature.inputs), ("outputs", signature.outputs))
                if isinstance(document.get(group), (list, tuple))
            },
        }
        return _apply(signature, json.dumps({"version": VERSION, **named}, default=_plain))
    except (AttributeError, TypeError, ValueError) as error:
        raise ArgumentError("signature", f"{error}", "a document as in the docs") from None
    except ModelFileError as error:
        where = error.where.rpartition(", ")[2]
        raise ArgumentError(f"signature, {where}", error.found, error.needed) from None


def from_text(signature: Signature, text: str, source: str) -> Signature:
    """The signature, with what a document of its own file states in its place.

    Raises:
        ModelFileError: the document is malformed, contradicts the graph, or is of a later version;
            it names `source`.
    """
    try:
        return _apply(signature, text)
    except ModelFileError as error:
        where = error.where.rpartition(", ")[2]
        instead = "mend that file, or remove it"
        raise ModelFileError(f"{source}, {where}", error.found, error.needed, instead) from None


def _named(group: str, entries: Sequence[Any], ports: Sequence[Input | Output]) -> list[Any]:
    """The entries, each with its name and kind."""
    kinds = {port.name: port.kind for port in ports}
    named: list[Any] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            named.append(entry)
        elif "name" in entry:
            known = entry["name"] in kinds and "kind" not in entry
            named.append({**entry, "kind": kinds[entry["name"]]} if known else entry)
        else:
            names = [name for name, kind in kinds.items() if kind == entry.get("kind")]
            if not names:
                found, has = f"a model without {entry.get('kind')!r}", sorted(set(kinds.values()))
                _fail(f"{group}[{index}]", found, f"a kind that it has: {', '.join(has)}")
            named += [{**entry, "name": name} for name in names]
    return named


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy and PyTorch as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in it")


def _apply(guess: Signature, text: str) -> Signature:
    stated = _read(text)
    _check_names("inputs", stated.inputs, guess.inputs)
    _check_names("outputs", stated.outputs, guess.outputs)
    signature = Signature(
        tuple(_correct_input(i, stated.inputs.get(i.name)) for i in guess.inputs),
        tuple(_correct_output(o, stated.outputs.get(o.name)) for o in guess.outputs),
        stated.class_names or guess.class_names,
    )
    classes = signature.label.classes if signature.label else None
    if stated.class_names and classes not in (None, len(stated.class_names)):
        _fail("class_names", f"{len(stated.class_names)} names", f"{classes}, one per class")
    return signature


@dataclass(frozen=True, slots=True)
class _Stated:
    inputs: dict[str, _Fields]
    outputs: dict[str, _Fields]
    class_names: tuple[str, ...]


def _fail(field: str, found: str, needed: str) -> NoReturn:
    instead = "export the model again, or remove the metadata"
    raise ModelFileError(f"metadata {KEY}, {field}", found[:200], needed, instead)


def _read(text: str) -> _Stated:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        _fail("the document", f"no JSON ({error})", "a JSON object")
    if not isinstance(document, dict):
        _fail("the document", f"a JSON {type(document).__name__}", "a JSON object")
    version = document.get("version")
    if type(version) is not int or version < 1:
        _fail("version", repr(version), f"a whole number from 1 to {VERSION}")
    if version > VERSION:
        _fail("version", str(version), f"at most {VERSION}; a later fastgan wrote this file")
    class_names = document.get("class_names", [])
    if not isinstance(class_names, list) or not all(isinstance(n, str) for n in class_names):
        _fail("class_names", repr(class_names), "a list of strings")
    return _Stated(
        _read_ports(document, "inputs", get_args(InputKind)),
        _read_ports(document, "outputs", get_args(OutputKind)),
        tuple(class_names),
    )


def _read_ports(document: _Fields, group: str, kinds: tuple[str, ...]) -> dict[str, _Fields]:
    entries = document.get(group, [])
    if not isinstance(entries, list):
        _fail(group, repr(entries), "a list of objects")
    ports: dict[str, _Fields] = {}
    for index, entry in enumerate(entries):
        where = f"{group}[{index}]"
        if not isinstance(entry, dict):
            _fail(where, repr(entry), "an object")
        name, kind = entry.get("name"), entry.get("kind")
        if not isinstance(name, str) or name in ports:
            _fail(f"{where}.name", repr(name), "a string that no other entry has")
        if kind not in kinds:
            _fail(f"{where}.kind", repr(kind), "one of " + ", ".join(kinds))
        readers: dict[str, Callable[[str, object], object]] = {
            "range": _read_range,
            "mean": _read_channels,
            "std": _read_channels,
        }
        if group == "inputs":
            readers |= {"classes": _read_classes, "default": _read_default}
            readers["distribution"] = partial(_read_word, get_args(Distribution))
            readers["fill"] = partial(_read_word, get_args(Fill))
        given = {key: entry[key] for key in readers if entry.get(key) is not None}
        ports[name] = {key: readers[key](f"{where}.{key}", value) for key, value in given.items()}
        _settle_range(where, ports[name])
        ports[name]["kind"] = kind
    return ports


def _read_word(words: tuple[str, ...], where: str, value: object) -> object:
    if value not in words:
        _fail(where, repr(value), "one of " + ", ".join(words))
    return value


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30  # false for NaN


def _read_default(where: str, value: Any) -> float:
    if not _finite(value):
        _fail(where, repr(value), "a finite number")
    return float(value)


def _read_classes(where: str, value: object) -> int:
    if type(value) is not int or not 1 <= value < 2**31:
        _fail(where, repr(value), "a whole number of classes, at least 1")
    return value


def _read_range(where: str, value: object) -> Range:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 2 or not all(map(_finite, numbers)) or not numbers[0] < numbers[1]:
        _fail(where, repr(value), "[lowest, highest], two finite numbers")
    return float(numbers[0]), float(numbers[1])


def _read_channels(where: str, value: object) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else []
    deviations = where.endswith(".std")
    finite = bool(numbers) and all(map(_finite, numbers))
    if not finite or (deviations and min(numbers) < 1e-30):
        above = ", above 0" if deviations else ""
        _fail(where, repr(value), f"a list of finite numbers, one for each channel{above}")
    return tuple(map(float, numbers))


def _settle_range(where: str, fields: _Fields) -> None:
    """A mean and a deviation for each channel where one of the two is given, and their range."""
    mean, std = fields.get("mean"), fields.get("std")
    if not (mean or std):
        if "range" in fields:
            fields |= {"mean": (), "std": ()}
        return
    if "range" in fields:
        _fail(f"{where}.range", "mean or std beside it", "one of the two")
    fields["mean"] = mean = mean or (0.0,) * len(std or ())
    fields["std"] = std = std or (1.0,) * len(mean)
    if len(mean) != len(std):
        _fail(f"{where}.std", f"{len(std)} numbers", f"{len(mean)}, as mean has")
    fields["range"] = normalised_range(mean, std)


def _check_names(
    group: str, stated: dict[str, _Fields], ports: tuple[Input, ...] | tuple[Output, ...]
) -> None:
    names = [port.name for port in ports]
    for name in stated:
        if name not in names:
            known = ", ".join(repr(n) for n in names) or "none"
            _fail(group, f"the name {name!r}", f"a name among the graph's {group}: {known}")


def _correct_input(guess: Input, fields: _Fields | None) -> Input:
    if fields is None:
        return guess
    if guess.kind == "scalar" and fields["kind"] == "tensor":  # all that was to say before
        fields = {**fields, "kind": "scalar"}
    if guess.kind != fields["kind"]:  # what was guessed for another kind is void
        plain = Input(guess.name, "tensor", guess.shape, guess.dtype, guessed=guess.guessed)
        guess = replace(plain, channels_last=guess.channels_last)
    stated = replace(guess, **fields, guessed=False)
    if "range" in fields:
        stated = replace(stated, basis=None)
    if stated.kind in ("latent", "noise") and stated.distribution is None:
        stated = replace(stated, distribution="normal")
    if stated.kind == "label" and stated.dtype in FLOATS and len(stated.shape) == 2:
        width = stated.shape[1]
        if stated.classes is None and isinstance(width, int):
            stated = replace(stated, classes=width)
    _check_against_graph(stated)
    return stated


def _correct_output(guess: Output, fields: _Fields | None) -> Output:
    if fields is None:
        return guess
    stated = replace(guess, **fields)
    if "range" in fields:
        stated = replace(stated, guessed=False, basis=None)
    _check_channels(f"output {stated.name!r}", stated)
    return stated


def _check_channels(where: str, port: Input | Output) -> None:
    """Hold a mean for each channel to the channels that there are."""
    if not port.mean:
        return
    channels = port.shape[1] if len(port.shape) == 4 else None
    if port.kind != "image" or port.dtype not in FLOATS:
        _fail(f"mean of {where}", f"{port.kind!r} of {port.dtype}", "an image of floats")
    if isinstance(channels, int) and len(port.mean) != channels:
        _fail(f"mean of {where}", f"{len(port.mean)} numbers", f"{channels}, one for each channel")


def _check_against_graph(port: Input) -> None:
    where, rank = f"input {port.name!r}", len(port.shape)
    _check_channels(where, port)
    found = f"{port.kind!r} for {port.dtype} {shape_text(port.shape)}"
    if port.kind in ("latent", "noise") and port.dtype not in FLOATS:
        _fail(where, found, "a floating-point input")
    if port.kind == "scalar" and any(size not in (1, None) for size in map(_fixed, port.shape[1:])):
        _fail(where, found, "one number, or one for each sample")
    if port.default is not None and port.kind != "scalar":
        _fail(f"{where}.default", f"{port.default:g} for a {port.kind}", "a scalar")
    if port.kind in ("image", "mask") and rank not in (0, 4):
        _fail(where, found, "rank 4, [batch, channels, height, width]")
    if port.kind == "label":
        one_hot = port.dtype in FLOATS and rank == 2
        if not one_hot and not (port.dtype in INTEGERS and rank <= 2):
            _fail(where, found, "class indices [batch], or one-hot [batch, classes]")
        if one_hot and isinstance(port.shape[1], int) and port.classes != port.shape[1]:
            _fail(where, f"{port.classes} classes", f"{port.shape[1]}, the width of the one-hot")


def _fixed(size: int | str | None) -> int | None:
    return size if isinstance(size, int) else None
