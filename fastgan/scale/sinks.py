"""Samples into a shard of one of the formats, the same bytes each time.

webdataset: a tar of `KEY.png`, and `KEY.cls` for a model with classes; its pax header says what
made it. parquet: rows of `index`, `seed`, `image` and `label`, as Hugging Face's `datasets` has
pictures; the same in the file's metadata. png: a folder of pictures.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from fastgan.errors import BackendError
from fastgan.scale.shards import FORMATS, Record, Shard
from fastgan.scale.store import Store

#: Rows that Parquet holds together, so that a reader need not take a shard as one.
_ROW_GROUP = 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a shard: its number, its picture as a PNG, and its class where it has one."""

    index: int
    png: bytes
    label: int | None = None

    @property
    def key(self) -> str:
        """Its name in a shard."""
        return f"{self.index:012d}"


class Sink(Protocol):
    """Takes the samples of a shard in order; `record` once it is closed."""

    def add(self, sample: Sample) -> None:
        """Take one."""

    def record(self) -> Record:
        """Its checksum and size."""


@contextmanager
def open_sink(
    store: Store, shard: Shard, format: str, manifest: str, labelled: bool
) -> Iterator[Sink]:
    """A sink for one shard, which is there once the block is left; nothing is after an error."""
    name = shard.file(format)
    if not FORMATS[format]:
        with store.folder(name) as folder:
            yield _Pictures(shard, folder)
        return
    with store.whole(name) as file:
        hashed = _Hashed(file)
        sink = (_Tar if format == "webdataset" else _Parquet)(shard, hashed, manifest, labelled)
        yield sink
        sink.close()


class _Hashed(io.RawIOBase):
    """A file to write that keeps the digest and the size of what has gone through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256, self.size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.sha256.update(view)
        self.size += view.nbytes
        self._file.write(view)
        return view.nbytes


class _File:
    def __init__(self, shard: Shard, file: _Hashed) -> None:
        self._shard, self._file = shard, file

    def record(self) -> Record:
        return Record(self._shard, self._file.sha256.hexdigest(), self._file.size)


class _Tar(_File):
    def __init__(self, shard: Shard, file: _Hashed, manifest: str, labelled: bool) -> None:
        super().__init__(shard, file)
        headers = {"comment": json.dumps(json.loads(manifest), sort_keys=True)}
        self._tar = tarfile.open(  # noqa: SIM115  closed by `close`
            fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, pax_headers=headers
        )

    def add(self, sample: Sample) -> None:
        self._member(f"{sample.key}.png", sample.png)
        if sample.label is not None:
            self._member(f"{sample.key}.cls", str(sample.label).encode())

    def _member(self, name: str, data: bytes) -> None:
        # TarInfo's own owner and time are nobody's and the epoch's: the same every time.
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def close(self) -> None:
        self._tar.close()


class _Parquet(_File):
    def __init__(self, shard: Shard, file: _Hashed, manifest: str, labelled: bool) -> None:
        super().__init__(shard, file)
        self._arrow, parquet = _pyarrow()
        self._schema = _schema(self._arrow, manifest, labelled)
        self._rows: list[Sample] = []
        self._writer = parquet.ParquetWriter(file, self._schema, compression="none")

    def add(self, sample: Sample) -> None:
        self._rows.append(sample)
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        rows = [
            {
                "index": sample.index,
                "seed": self._shard.seed,
                "image": {"bytes": sample.png, "path": f"{sample.key}.png"},
                "label": sample.label,
            }
            for sample in self._rows
        ]
        if rows:
            self._writer.write_table(self._arrow.Table.from_pylist(rows, self._schema))
        self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        instead = "pip install 'fastgan[scale]', or take webdataset"
        raise BackendError("--format parquet", "no pyarrow", "pyarrow", instead) from None
    return pyarrow, parquet


def _schema(arrow: Any, manifest: str, labelled: bool) -> Any:
    columns = [
        ("index", arrow.uint64()),
        ("seed", arrow.uint64()),
        ("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])),
    ]
    features: dict[str, Any] = {
        "index": {"dtype": "uint64", "_type": "Value"},
        "seed": {"dtype": "uint64", "_type": "Value"},
        "image": {"_type": "Image"},
    }
    if labelled:
        columns.append(("label", arrow.int64()))
        names = json.loads(manifest)["class_names"]
        features["label"] = (
            {"names": names, "_type": "ClassLabel"}
            if names
            else {"dtype": "int64", "_type": "Value"}
        )
    told = json.dumps({"info": {"features": features}})
    return arrow.schema(columns, {"fastgan": manifest, "huggingface": told})


class _Pictures:
    def __init__(self, shard: Shard, folder: Path) -> None:
        self._shard, self._folder, self._size = shard, folder, 0
        self._sums = hashlib.sha256()

    def add(self, sample: Sample) -> None:
        name = f"{sample.key}.png"
        (self._folder / name).write_bytes(sample.png)
        self._size += len(sample.png)
        self._sums.update(sum_line(sample.png, name))

    def record(self) -> Record:
        return Record(self._shard, self._sums.hexdigest(), self._size)


def sum_line(data: bytes, name: str) -> bytes:
    """A line as `sha256sum` prints it, and reads it."""
    line = f"{hashlib.sha256(data).hexdigest()}  {name}"
    if "\\" in name or "\n" in name:
        line = "\\" + line.replace("\\", "\\\\").replace("\n", "\\n")
    return f"{line}\n".encode(errors="surrogateescape")


def read_sums(data: bytes) -> Iterator[tuple[str, str]]:
    """(name, SHA-256) of each line that `sum_line` made.

    Raises:
        ValueError: there is another.
    """
    for line in data.decode(errors="surrogateescape").removesuffix("\n").split("\n"):
        escaped, text = line.startswith("\\"), line.removeprefix("\\")
        digest, gap, name = text[:64], text[64:66], text[66:]
        if gap != "  " or not name or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"the line {line[:100]!r}")
        if escaped:
            name = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], name)
        yield name, digest
