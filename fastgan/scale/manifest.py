"""What made a set of shards: written beside them, and held against by whoever goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError, ModelFileError
from fastgan.measure import machine
from fastgan.scale.store import Store

if TYPE_CHECKING:
    from fastgan.generator import Generator
    from fastgan.scale.shards import Job

#: The file that holds it, and the version of what this room writes.
NAME = "manifest.json"
VERSION = 1

_PACKAGES = ("fastgan", "torch", "numpy", "pillow")
_OF_BACKEND = {"ort": ("onnxruntime", "onnxruntime-gpu"), "triton": ("triton",), "torch": ()}

#: Arguments that change nothing, whether they are given or not; others do unless they are None.
_DEFAULTS = {"noise": True, "rng": "philox"}

Manifest = dict[str, Any]


def of(generator: Generator, job: Job) -> Manifest:
    """What decides the bytes of a job's shards, with this generator."""
    more = ("pyarrow",) if job.format == "parquet" else ()
    return {**job.stated(), **made_with(generator, job.arguments, more)}


def made_with(
    generator: Generator, arguments: Mapping[str, Any], more: tuple[str, ...] = ()
) -> Manifest:
    """What decides the bytes of whatever a generator makes.

    Args:
        arguments: of its calls.
        more: packages that have a part in it.
    """
    packages = (*_PACKAGES, *_OF_BACKEND[generator.backend], *more)
    known = {name: machine.version(name) for name in packages}
    made = generator.signature.made
    return {
        "fastgan_shards": VERSION,
        "model_sha256": generator.digest,
        "output": {"range": _plain(made.range), "mean": list(made.mean), "std": list(made.std)},
        "class_names": list(generator.signature.class_names),
        "device": generator.device.type,
        "backend": generator.backend,
        "precision": generator.precision,
        "arguments": {
            name: _plain(value)
            for name, value in arguments.items()
            if value is not None and not _same(value, _DEFAULTS.get(name))
        },
        "versions": {name: one for name, one in known.items() if one is not None},
    }


def text(manifest: Manifest) -> str:
    """One text for one manifest: JSON with sorted keys."""
    return json.dumps(manifest, sort_keys=True, indent=1) + "\n"


def claim(store: Store, manifest: Manifest) -> None:
    """Write the manifest, or find that it is the one that is there.

    Raises:
        ArgumentError: what is there was made otherwise; the message names what differs.
    """
    if read(store) is None:
        if foreign := store.names():
            found = f"{len(foreign)} files without a {NAME}, such as {min(foreign)}"
            raise ArgumentError(str(store), found, "an empty place, or shards of this run")
        store.write(NAME, text(manifest).encode())
    # Read again: several may begin at once, and the last to write has said what holds.
    agree(store, manifest, read(store) or {})


def agree(store: Store, manifest: Manifest, there: Manifest) -> None:
    """Raise ArgumentError unless the two are alike, as `claim`."""
    mine = json.loads(text(manifest))
    for key in sorted({*mine, *there}):
        if mine.get(key) != there.get(key):
            raise ArgumentError(
                str(store),
                f"shards of another run: {key} {_short(there.get(key))}",
                f"{key} {_short(mine.get(key))}, as this run has it",
                "take another place, or the options of that run",
            )


def read(store: Store) -> Manifest | None:
    """The manifest of a store; None where there is none.

    Raises:
        ModelFileError: the file is damaged.
    """
    data = store.read(NAME)
    if data is None:
        return None
    try:
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise ModelFileError(f"{store}/{NAME}", "damaged JSON", "the manifest of a run")


def _plain(value: Any) -> Any:
    """A value as JSON has it; an array by its digest, since it may be large."""
    if hasattr(value, "tobytes"):
        digest = hashlib.sha256(value.tobytes()).hexdigest()
        return {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": digest}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _same(value: Any, default: Any) -> bool:
    return isinstance(value, (bool, str)) and value == default


def _short(value: Any) -> str:
    shown = json.dumps(value, sort_keys=True)
    return shown if len(shown) <= 120 else f"{shown[:117]}..."
