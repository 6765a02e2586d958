"""Shards made in this process: a machine by itself, a task of a job array, or one of Ray's actors.

fastgan generate MODEL --n 1000000 --shards out --shard 3/64
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING, Any

from fastgan.engine.batches import planned
from fastgan.errors import ArgumentError
from fastgan.images.formats import WRITTEN
from fastgan.inputs import labels as class_labels
from fastgan.latents.sampling import Sampling
from fastgan.scale import manifest as manifests
from fastgan.scale.manifest import Manifest
from fastgan.scale.report import Report
from fastgan.scale.shards import Job, Record, Shard
from fastgan.scale.sinks import Sample, open_sink
from fastgan.scale.store import Folder, Store, open_store

if TYPE_CHECKING:
    from fastgan.generator import Generator

#: Images are encoded after so many bytes of floating-point values, or so many images.
_CHUNK_BYTES = 64 << 20
_LARGEST_CHUNK = {"cpu": 64, "cuda": 512}


def chunk(generator: Generator, size: tuple[int, int] | None, batch_size: int | None) -> int:
    """Images per call of `generate`: as many as fit `_CHUNK_BYTES`, in whole batches.

    Args:
        size: height and width, where they are not the model's.
    """
    sides = [side for side in generator.signature.made.shape[1:] if isinstance(side, int)]
    sides += size or ()
    largest = _LARGEST_CHUNK[generator.device.type]
    power = planned(min(largest, _CHUNK_BYTES // (4 * max(1, prod(sides)))))
    batch = generator.signature.frozen_batch or batch_size or 1
    return max(1, power // batch) * batch if batch > 0 else power


def load(job: Job) -> Generator:
    """The model of a job, with the threads that it may use, if its samples can go into shards.

    Raises:
        ArgumentError: they can't: no pictures, or none that a sample alone decides on.
    """
    import fastgan

    generator = fastgan.load(job.model, threads=job.threads, **job.options)
    made = generator.signature.made
    if made.kind != "image":
        raise ArgumentError("shards", f"output {made.name!r}, which is no image", "pictures")
    if not made.apart:
        found = "a model that may make each sample of all in its batch"
        raise ArgumentError("shards", found, "one that makes each of its own")
    channels = made.shape[1] if len(made.shape) == 4 else None
    if isinstance(channels, int) and channels not in (1, 3, 4):
        raise ArgumentError("shards", f"{channels} channels", "1 (grey), 3 (RGB) or 4 (RGBA)")
    return generator


def run(
    generator: Generator,
    job: Job,
    part: tuple[int, int] = (0, 1),
    resume: bool = False,
    told: Callable[[int, int], object] = lambda done, total: None,
) -> Report:
    """Make the shards of a job, or of a part of it, that are not there.

    Args:
        part: (i, n): every nth shard from the ith on, i from 0.
        resume: whether shards may be there already.
        told: called with how many images are done and to be done.

    Raises:
        ArgumentError: what is there was made otherwise, or is there without `resume`.
        OSError: a shard can't be written.
    """
    store = open_store(job.out, "--shards")
    if isinstance(store, Folder):
        store.sweep()
    maker = Maker(generator, job, store)
    manifests.claim(store, maker.manifest)
    mine = range(part[0], len(job), part[1])
    missing = list(job.missing(store.names(), part))
    report = Report(kept=len(mine) - len(missing))
    check_resume(store, report.kept, resume)
    total = sum(job.shard(index).count for index in missing)
    began = time.perf_counter()
    for index in missing:
        record = maker.make(job.shard(index), lambda done: told(report.images + done, total))
        report.images += record.shard.count
        report.shards += 1
        report.bytes += record.bytes
        report.core_seconds += record.core_seconds
        report.seconds = time.perf_counter() - began
    return report


def check_resume(store: Store, kept: int, resume: bool) -> None:
    """Raise ArgumentError where shards are there that nobody said would be."""
    if kept and not resume:
        instead = "--resume keeps them and makes what is missing"
        raise ArgumentError(str(store), f"{kept} shards of this run", "none yet", instead)


class Maker:
    """Makes shards of a job with one loaded model.

    Attributes:
        manifest: of the job, with this model.
    """

    def __init__(self, generator: Generator, job: Job, store: Store) -> None:
        self.manifest: Manifest = manifests.of(generator, job)
        self._generator, self._job, self._store = generator, job, store
        self._text = manifests.text(self.manifest)
        self._chunk = chunk(generator, job.arguments.get("size"), job.arguments.get("batch_size"))

    def make(self, shard: Shard, told: Callable[[int], object] = lambda n: None) -> Record:
        """Make one shard and the record that says it is whole.

        Args:
            told: called with how many of its images are done.
        """
        began, used = time.perf_counter(), time.process_time()
        job = self._job
        labelled = self._generator.signature.label is not None
        with open_sink(self._store, shard, job.format, self._text, labelled) as sink:
            for count, sample in enumerate(self._samples(shard), 1):
                sink.add(sample)
                if count % self._chunk == 0:
                    told(count)
        done = sink.record()
        self._store.write(shard.record, done.text(self.manifest).encode())
        told(shard.count)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        return Record(shard, done.sha256, done.bytes, seconds, used)

    def _samples(self, shard: Shard) -> Iterator[Sample]:
        """Each sample, encoded; on more threads than one the next are computed meanwhile."""
        threads = self._job.threads or os.cpu_count() or 1
        given = {name: v for name, v in self._job.arguments.items() if v is not None}
        with ExitStack() as open_:
            encode: Callable[..., Iterator[bytes]] = map
            if threads > 1:
                encode = open_.enter_context(ThreadPoolExecutor(threads, "fastgan-encode")).map
            waiting: Iterator[Sample] = iter(())
            for first in range(shard.first, shard.first + shard.count, self._chunk):
                count = min(self._chunk, shard.first + shard.count - first)
                images = self._generator.generate(
                    count, seed=shard.seed, start=first, format="uint8", **given
                )
                encoded = encode(_png, images.cpu().numpy())
                yield from waiting
                waiting = map(
                    Sample, range(first, first + count), encoded, self._labels(first, count)
                )
            yield from waiting

    def _labels(self, first: int, count: int) -> list[int | None]:
        """The class of each sample, as `generate` takes it."""
        signature = self._generator.signature
        port = signature.label
        if port is None:
            return [None] * count
        import torch

        given = self._job.arguments.get("labels", self._job.arguments.get(port.name))
        sampling = Sampling.of(self._job.seed, first)
        found = class_labels.resolve(
            given, count, port, signature.class_names, sampling, torch.device("cpu")
        )
        if found.dim() == 2 and found.dtype.is_floating_point:
            found = found.argmax(1)
        return [int(one) for one in found.flatten()]


def _png(image: Any) -> bytes:
    """uint8 [H, W, C] as a PNG; one machine's bytes, as long as Pillow is the same."""
    from PIL import Image

    file = io.BytesIO()
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.save(file, "PNG", **WRITTEN["png"].options)
    return file.getvalue()
