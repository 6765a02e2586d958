"""What a model's inputs and outputs are, from all that says so; and a file beside it that does.

Whoever calls beats the file beside the model, `model.fastgan.json` for `model.onnx`; that beats
the model's own metadata; and what none of them states is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastgan.errors import ModelFileError
from fastgan.host import files
from fastgan.model import stated as signature_metadata
from fastgan.model.described import of
from fastgan.model.file import ModelFile
from fastgan.model.guess import ranges as signature_ranges
from fastgan.model.signature import Signature

SUFFIX = ".fastgan.json"
_LARGEST = 16 << 20  # bytes: ten thousand class names are a fraction of one


def describe(model: ModelFile, stated: Mapping[str, Any] | None = None) -> Signature:
    """What the inputs and outputs of a model are.

    Args:
        stated: what a caller states: see `signature_metadata.override`.

    Raises:
        ModelFileError: the metadata or the file beside it is malformed or contradicts the graph.
        ArgumentError: so does what the caller states.
    """
    described = of(model.model)
    path = None if model.path is None else beside(model.path)
    if path is not None and path.exists():
        described = signature_metadata.from_text(described, _read(path), str(path))
    if stated is not None:
        described = signature_metadata.override(described, stated)
    return signature_ranges.complete(model.model.graph, described)


def beside(model: Path) -> Path:
    """The file that says what the model's inputs and outputs are, whether or not it exists."""
    return model.with_name(model.stem + SUFFIX)


def write(path: Path, signature: Signature) -> None:
    """State the signature in a file of its own.

    Raises:
        OSError: it can't be written.
    """
    document = json.loads(signature_metadata.dump(signature))
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    with files.whole(path) as file:
        file.write(text.encode())


def _read(path: Path) -> str:
    needed = "a JSON document of the model's inputs and outputs"
    try:
        if not path.is_file():
            raise ModelFileError(str(path), "no plain file", needed)
        if path.stat().st_size > _LARGEST:
            raise ModelFileError(str(path), f"more than {_LARGEST >> 20} MiB", needed)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ModelFileError(str(path), "no UTF-8", needed) from None
    except OSError as error:
        reason = (error.strerror or "an error").lower()
        raise ModelFileError(str(path), reason, "a file that can be read") from None
