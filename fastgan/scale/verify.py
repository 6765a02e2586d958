"""Whether all that a run made is there, whole, and holds what it says."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

from fastgan.errors import ArgumentError
from fastgan.scale import manifest as manifests
from fastgan.scale import pictures
from fastgan.scale.manifest import Manifest
from fastgan.scale.shards import Job, Shard
from fastgan.scale.sinks import sum_line
from fastgan.scale.store import Store, open_store


class Verified(NamedTuple):
    """What was found of a run.

    Attributes:
        wrong: (name, what is wrong with it), none where everything is there, once, as it was made.
        shards: how many there are to be; 0 for pictures of `scale apply`.
        samples: how many there are to be; or pictures.
    """

    wrong: list[tuple[str, str]]
    shards: int
    samples: int


def verify(place: str, told: Callable[[int, int], object] = lambda done, total: None) -> Verified:
    """Read everything that a run made again.

    Args:
        place: the folder or URL.
        told: called with how many shards, or pictures, are done and to be done.

    Raises:
        ArgumentError: there is no manifest.
        ModelFileError: the manifest, or the file of pictures' checksums, is damaged.
    """
    store = open_store(place)
    made = manifests.read(store)
    if made is None:
        raise ArgumentError(place, f"no {manifests.NAME}", "a place that fastgan wrote to")
    return _shards(store, made, told) if "n" in made else _results(store, made, told)


def _shards(store: Store, made: Manifest, told: Callable[[int, int], object]) -> Verified:
    numbers = (made[key] for key in ("n", "seed", "start", "shard_size", "format"))
    job = Job("", store.name, *numbers)
    there, wrong = store.names(), []
    expected = {manifests.NAME}
    for index in range(len(job)):
        shard = job.shard(index)
        expected |= {shard.record, shard.file(job.format)}
        if problem := _problem(store, shard, job.format, made, there):
            wrong.append((shard.name, problem))
        told(index + 1, len(job))
    wrong += [(name, "is no part of this run") for name in sorted(there - expected)]
    return Verified(wrong, len(job), job.n)


def _results(store: Store, made: Manifest, told: Callable[[int, int], object]) -> Verified:
    """Pictures, held to their checksums; and to what they were made of, where that is there."""
    there, known = set(store.pictures()), pictures.sums(store)
    try:
        wanted = {target for _, target in pictures.targets(made["source"], made["ext"])}
    except (ArgumentError, OSError):  # it is elsewhere
        wanted = set(known)
    wrong = []
    every = sorted(there | known.keys() | wanted)
    for index, name in enumerate(every):
        if name not in there:
            wrong.append((name, "is missing"))
        elif name not in known:
            wrong.append((name, "has no checksum"))
        elif (found := hashlib.sha256(store.read(name) or b"").hexdigest()) != known[name]:
            wrong.append((name, f"has the checksum {found}, not {known[name]}"))
        told(index + 1, len(every))
    return Verified(wrong, 0, len(every))


def _problem(
    store: Store, shard: Shard, format: str, made: Manifest, there: set[str]
) -> str | None:
    name = shard.file(format)
    for file in (name, shard.record):
        if file not in there:
            return f"is missing: no {file}"
    try:
        record = json.loads(store.read(shard.record) or b"")
        if record.get("made_by") != made:
            return "was made otherwise than the manifest says"
        if (record["seed"], record["first"], record["count"]) != (
            *(shard.seed, shard.first, shard.count),
        ):
            return "has the record of other samples"
        digest, keys = _READERS[format](store, name)
    except (OSError, ValueError, KeyError, AttributeError, tarfile.TarError) as error:
        return f"can't be read: {error}"
    if digest != record["sha256"]:
        return f"has the checksum {digest}, and its record {record['sha256']}"
    wanted = range(shard.first, shard.first + shard.count)
    return None if list(keys) == list(wanted) else "holds other samples than its name says"


def _tar(store: Store, name: str) -> tuple[str, Iterable[int]]:
    with store.open(name) as file:
        hashed = _Hashing(file)
        with tarfile.open(fileobj=hashed, mode="r|") as tar:
            keys = [int(one.name.partition(".")[0]) for one in tar if one.name.endswith(".png")]
        while hashed.read(1 << 20):  # what stands behind the last member
            pass
        return hashed.sha256.hexdigest(), keys


def _parquet(store: Store, name: str) -> tuple[str, Iterable[int]]:
    from pyarrow import parquet

    with store.open(name) as file:
        data = file.read()
    table = parquet.read_table(io.BytesIO(data), columns=["index"])
    return hashlib.sha256(data).hexdigest(), table["index"].to_pylist()


def _pictures(store: Store, name: str) -> tuple[str, Iterable[int]]:
    sums, keys = hashlib.sha256(), []
    for picture in sorted(store.inside(name)):
        sums.update(sum_line(store.read(f"{name}/{picture}") or b"", picture))
        keys.append(int(picture.removesuffix(".png")))
    return sums.hexdigest(), keys


_READERS = {"webdataset": _tar, "parquet": _parquet, "png": _pictures}


class _Hashing(io.RawIOBase):
    """A file to read that keeps the digest of what has gone through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        data = self._file.read(size)
        self.sha256.update(data)
        return data
