"""Where the bytes come from, and what they are when they are not ONNX."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgan import models
from fastgan.errors import LimitError, ModelFileError
from fastgan.host import arguments, files
from fastgan.limits import Limits, size_text
from fastgan.model.file import stored

#: The bytes of a smaller file stay in memory; a larger one stays open.
_SMALL = 1 << 20

EXPORT = "`fastgan export` makes one of published weights, fastgan.export(module, path) of a module"
NEEDED = "an ONNX model file"


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a model file, and where they came from.

    Attributes:
        data: all of them, like `bytes`; in memory as long as this is.
        name: what messages call it.
        path: the file, or None where the source was bytes.
        store: what the bytes are read from once `data` is gone.
    """

    data: Any
    name: str
    path: Path | None
    store: stored.Store

    def error(
        self, found: str, needed: str = NEEDED, instead: str = "", *, at: str = ""
    ) -> ModelFileError:
        """The error to raise, at a place in the file or about all of it."""
        where = f"{self.name}: {at}" if at else self.name
        return ModelFileError(where, found, needed, instead)

    def too_large(self) -> LimitError:
        """That there is not the memory to read it."""
        needed = "one that fits the memory there is"
        return LimitError(self.name, "a file that takes more memory to read", needed)


def open_source(source: str | os.PathLike[str] | bytes, limits: Limits) -> Source:
    """The bytes of `source`, at most `limits.file_bytes` of them, that are not plainly another
    format.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        data, store = _read_file(path, limits)
        opened = Source(data, path.name, path, store)
    else:
        opened = given(bytes(source), "model bytes", None)
        _check_size(opened.name, len(opened.data), limits)
    if other := other_format(opened.data, opened.name):
        raise opened.error(other[0], NEEDED, other[1])
    return opened


def given(data: bytes, name: str, path: Path | None) -> Source:
    """Bytes as a source."""
    return Source(data, name, path, stored.Given(data))


def _read_file(path: Path, limits: Limits) -> tuple[Any, stored.Store]:
    try:
        if path.is_dir():
            inside = sorted(p.name for p in path.glob("*.onnx"))[:3]
            hint = f"the folder holds {', '.join(inside)}" if inside else ""
            raise ModelFileError(str(path), "a folder", NEEDED, hint)
        with files.open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(str(path), size, limits)
            opened = stored.Opened(file.fileno(), path)
            data = opened.read(0, size)
            if size < _SMALL:
                return data, stored.Given(bytes(data))
            return data, opened
    except FileNotFoundError:
        raise ModelFileError(str(path), "no such file", NEEDED, _similar(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(str(path), reason.lower(), "a file that can be read") from None


def _check_size(name: str, size: int, limits: Limits) -> None:
    if size > limits.file_bytes:
        raise LimitError(
            name,
            size_text(size),
            f"at most {size_text(limits.file_bytes)} (Limits.file_bytes)",
            "keep large weights in external data" if size >= 1 << 31 else "",
        )


def _similar(path: Path) -> str:
    """A file beside the missing one, or a shipped model, that may have been meant."""
    try:
        known = [entry.name for entry in os.scandir(path.parent or ".") if entry.is_file()]
    except OSError:
        known = []
    bare = path.name == str(path) and not path.suffix  # as the name of a shipped model is
    known += models.names() if bare else ()
    ships = "'fastgan models' lists the names of those that ship" if bare else ""
    return arguments.meant(path.name, known) or ships


# (offset, magic bytes, what it is, what to do)
_MAGIC = (
    (0, b"\x89PNG", "a PNG image", ""),
    (0, b"\xff\xd8\xff", "a JPEG image", ""),
    (0, b"GIF8", "a GIF image", ""),
    (0, b"%PDF", "a PDF document", ""),
    (0, b"\x7fELF", "a program", ""),
    (0, b"MZ", "a program", ""),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (0, b"BZh", "a bzip2 archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first"),
    (0, b"\x89HDF", "an HDF5 (Keras) model", "convert it with tf2onnx or keras's model.export"),
    (0, b"\x93NUMPY", "a NumPy array", ""),
    (0, b"GGUF", "a GGUF model", ""),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it with tf2onnx"),
    (4, b"ORTM", "a model in ONNX Runtime's own .ort format", "give the .onnx it was made from"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file", "run: git lfs pull"),
)


def other_format(data: Any, name: str) -> tuple[str, str] | None:
    """(what `data` is, what to do about it) where it is plainly not ONNX, else None."""
    if not data:
        return "an empty file", "download or export it again"
    head = bytes(data[:512])
    for offset, magic, what, advice in _MAGIC:
        if head.startswith(magic, offset):
            return what, advice
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(bytes(data[-(1 << 16) :]))
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle (a PyTorch checkpoint of the old kind, or another Python object)", EXPORT
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < len(data):
        return "a safetensors file, which has weights and no graph", EXPORT
    if head.isascii() and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        page = head.lstrip()[:1] == b"<"
        return ("a web page or XML", "download the file itself") if page else ("a text file", "")
    return None


def _in_zip(tail: bytes) -> tuple[str, str]:
    # The names stand in the archive's directory, at its end; they need no unpacking.
    if b"data.pkl" in tail or b"constants.pkl" in tail:
        return "a PyTorch checkpoint", EXPORT
    if b"model.weights.h5" in tail:
        return "a Keras model", "convert it with tf2onnx or keras's model.export"
    if b".npy" in tail:
        return "a NumPy archive", ""
    return "a zip archive", "unpack it first" if b".onnx" in tail else ""
