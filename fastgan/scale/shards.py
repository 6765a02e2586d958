"""Which samples a shard holds, and what it is called: shard k is samples [k*size, (k+1)*size)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastgan.errors import ArgumentError

#: What a shard can be, and the ending of its name; png is a folder.
FORMATS = {"webdataset": ".tar", "parquet": ".parquet", "png": ""}
RECORD = ".json"


@dataclass(frozen=True, slots=True)
class Shard:
    """Samples first, ..., first + count - 1 of a seed."""

    seed: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """What its files are called, without an ending."""
        return f"seed{self.seed}-{self.first:012d}-{self.count}"

    def file(self, format: str) -> str:
        """The file, or the folder, that it is."""
        return self.name + FORMATS[format]

    @property
    def record(self) -> str:
        """The file that says it is whole: its checksum, and what made it."""
        return self.name + RECORD


@dataclass(frozen=True)
class Job:
    """Samples to make: what every worker is told.

    Attributes:
        model: as `fastgan.load` takes it, where the worker runs.
        out: a folder or a URL.
        n, seed, start: samples `start`, ..., `start + n - 1` of the seed.
        size: samples in a shard.
        format: a key of `FORMATS`.
        options: of `fastgan.load`.
        arguments: of `Generator.generate`.
        threads: that one worker computes with; None leaves it to the machine.
    """

    model: str
    out: str
    n: int
    seed: int = 0
    start: int = 0
    size: int = 4096
    format: str = "webdataset"
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None

    def __post_init__(self) -> None:
        from fastgan.host import arguments

        for name, least in (("n", 1), ("start", 0), ("size", 1)):
            arguments.whole(name, getattr(self, name), least)
        arguments.whole("seed", self.seed, 0, arguments.LARGEST_SEED)
        if self.format not in FORMATS:
            raise ArgumentError("format", repr(self.format), ", ".join(FORMATS))

    def stated(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "n": self.n,
            "seed": self.seed,
            "start": self.start,
            "shard_size": self.size,
            "format": self.format,
        }

    def __len__(self) -> int:
        """How many shards there are."""
        return -(-self.n // self.size)

    def shard(self, index: int) -> Shard:
        """The shard of this number; the last one may be smaller."""
        offset = index * self.size
        return Shard(self.seed, self.start + offset, min(self.size, self.n - offset))

    def missing(self, there: set[str], part: tuple[int, int] = (0, 1)) -> Iterator[int]:
        """The numbers of the shards that are still to be made.

        Args:
            there: the names in the store. A record is written after its shard, so one beside it
                says that it is whole.
            part: (i, n): every nth from the ith on.
        """
        for index in range(part[0], len(self), part[1]):
            shard = self.shard(index)
            if not {shard.record, shard.file(self.format)} <= there:
                yield index


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a shard: all but `seconds` and `core_seconds` stands in its file.

    Attributes:
        sha256: of the file; of a folder, of what `sha256sum *` prints in it.
        bytes: of its file or files together.
    """

    shard: Shard
    sha256: str
    bytes: int
    seconds: float = 0.0
    core_seconds: float = 0.0

    def text(self, manifest: Mapping[str, Any]) -> str:
        """The record as a file."""
        shard = self.shard
        said = {
            "seed": shard.seed,
            "first": shard.first,
            "count": shard.count,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "made_by": manifest,
        }
        return json.dumps(said, sort_keys=True, indent=1) + "\n"
