"""Bytes in, a checked `onnx_ir.Model` out: the only reader of foreign bytes.

The order is what makes it safe: the size is looked at before a byte is read, the bytes are told
apart from other formats before they are parsed, the parsed message is checked before an IR is
built, and nothing later (a runtime, a planner) sees a file that has not passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.errors import ArgumentError
from fastgan.limits import Limits

if TYPE_CHECKING:
    import onnx_ir

    from fastgan.model.file.beside import Beside

__all__ = ["Limits", "ModelFile", "read"]


@dataclass(frozen=True, slots=True, repr=False)
class ModelFile:
    """A model that has passed every check.

    Attributes:
        model: the graph with its opset imports, local functions inlined, ONNX Runtime's own
            operators as plain ones (`fastgan.model.plain`). Small weights are in the parsed
            message, large ones are read from the file when their numbers are asked for
            (`stored`), those beside it are in memory.
        name: what messages call it: the file's name, or "model bytes".
        path: the file, or None where the source was bytes.
        external: the files beside it that weights lie in, by the locations that it gives them, as
            they were when they were read.
        limits: what it was checked against; a plan of it is held to them as well.
    """

    model: onnx_ir.Model
    name: str
    path: Path | None
    external: Mapping[str, Beside]
    limits: Limits
    _data: Callable[[], bytes]
    #: What large weights are read from.
    _store: object = None

    def to_runtime(self) -> str | bytes:
        """The checked model for `onnxruntime.InferenceSession`: its bytes, so that nobody can
        change it in between; its path where it has external data, which ONNX Runtime finds
        relative to the file.

        Raises:
            ModelFileError: the file, or one with external data, is not what it was when it was
                read.
        """
        if not self.external:
            return self._data()
        for file in self.external.values():
            file.check()
        return str(self.path)

    def in_memory(self) -> tuple[bytes, Mapping[str, Beside]]:
        """The same in memory: its bytes, and the files beside it by their locations."""
        return self._data(), self.external

    def __repr__(self) -> str:
        return f"ModelFile({self.name!r}, {len(self.model.graph)} nodes)"


def read(
    source: str | os.PathLike[str] | bytes,
    limits: Limits | None = None,
    *,
    isolate: bool = False,
) -> ModelFile:
    """Read and check an ONNX model.

    Args:
        source: a path, or the bytes of a file.
        limits: what the model may cost; `Limits()` if None.
        isolate: read it in a child process first, so that even a crash of a library below
            becomes an error here. Costs the start of an interpreter, about half a second.

    Raises:
        ModelFileError: the file is missing, is not ONNX, is damaged, or breaks ONNX's rules.
        LimitError: it asks for more than `limits`.
        UnsupportedError: it uses a part of ONNX that fastgan does not read.
    """
    if not isinstance(source, (str, bytes, bytearray, memoryview, os.PathLike)):
        raise ArgumentError("source", type(source).__name__, "a path or bytes")
    limits = limits or Limits()
    from fastgan.model.file.source import open_source

    opened = open_source(source, limits)
    if isolate:
        from fastgan.model.file.isolate import check_in_child

        check_in_child(opened, limits)
    from fastgan.model.file.parse import parse  # Imports onnx and onnx_ir.
    from fastgan.model.plain import plain

    model, data, used = parse(opened, limits)
    external: Mapping[str, Beside] = {}
    if used:
        from fastgan.model.file.beside import hold

        external = hold(model, used, opened)
    return ModelFile(plain(model), opened.name, opened.path, external, limits, data, opened.store)
