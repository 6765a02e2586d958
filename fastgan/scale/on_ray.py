"""Shards and pictures by Ray Data: on this machine, or on a cluster by its address.

Ray Data hands out one piece of work at a time, a shard or a few pictures, to actors that hold a
loaded model each; starts again what dies, and gives its work to others. What a piece is decides its
bytes, so nothing depends on who makes it, or how often.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastgan.errors import ArgumentError, BackendError, FastganError, one_line
from fastgan.host import arguments as numbers
from fastgan.scale import manifest as manifests
from fastgan.scale import work
from fastgan.scale.manifest import Manifest
from fastgan.scale.pictures import Folders, Improver, sums
from fastgan.scale.report import Report
from fastgan.scale.shards import Job
from fastgan.scale.store import Folder, Store, open_store

Told = Callable[[int, int], object]

#: What Ray keeps for results, which are a line each.
_OBJECT_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the work is done.

    Attributes:
        address: of a cluster, as `ray.init` takes it; None begins one on this machine, for as long
            as the work takes.
        workers: how many actors; None for as many as there are processors, or GPUs, for.
        threads: that each computes with, and processors that Ray counts for it.
        gpus: that each has; None for one where the cluster has any and the device is not "cpu".
        max_failures: pieces of work that may fail before the rest is given up.
    """

    address: str | None = None
    workers: int | None = None
    threads: int = 1
    gpus: float | None = None
    max_failures: int = 0

    def __post_init__(self) -> None:
        numbers.whole("threads", self.threads)
        numbers.whole("max_failures", self.max_failures, 0)
        if self.workers is not None:
            numbers.whole("workers", self.workers)
        if self.gpus is not None:
            numbers.number("gpus", self.gpus, 0)


def generate(
    model: str,
    n: int,
    out: str,
    *,
    seed: int = 0,
    start: int = 0,
    shard_size: int = 4096,
    format: str = "webdataset",
    resume: bool = False,
    cluster: Cluster = Cluster(),
    told: Told = lambda done, total: None,
    options: dict[str, Any] | None = None,
    **arguments: Any,
) -> Report:
    """Make samples `start`, ..., `start + n - 1` of a seed, in shards.

    Args:
        model: as `fastgan.load` takes it, on every machine of the cluster: a path that all of them
            see, or the name of a model that ships.
        out: a folder that all of them see, or a URL that fsspec opens.
        shard_size: samples in a shard: shard k is samples k * shard_size on.
        format: "webdataset", "parquet" or "png".
        resume: keep shards that are there, and make those that are missing.
        told: called with how many images are done and to be done.
        options: of `fastgan.load`.
        arguments: of `Generator.generate`, such as `labels` and `truncation`.

    Raises:
        ArgumentError: an argument is out of range, or what is at `out` was made otherwise.
        BackendError: Ray is not installed, or the cluster is not reached or too small.
    """
    job = Job(
        model, out, n, seed, start, shard_size, format, options or {}, arguments, cluster.threads
    )
    store = open_store(out)
    with _ray(cluster) as ray:
        resources = _resources(ray, cluster, job.options)
        made = _claimed(ray, resources, lambda: manifests.of(work.load(job), job), store)
        missing = list(job.missing(store.names()))
        report = Report(kept=len(job) - len(missing))
        work.check_resume(store, report.kept, resume)
        total = sum(job.shard(index).count for index in missing)
        for row in _pieces(ray, cluster, resources, _ShardWorker, (job, made), missing, report):
            report.images += row.count
            report.shards += 1
            told(report.images, total)
    return report


def apply(
    model: str,
    source: str,
    out: str,
    *,
    ext: str = "png",
    group: int = 16,
    resume: bool = False,
    cluster: Cluster = Cluster(),
    told: Told = lambda done, total: None,
    options: dict[str, Any] | None = None,
    **arguments: Any,
) -> Report:
    """Run an image-to-image model on every picture of a folder, and keep its tree.

    Args:
        model, resume, cluster, told, options: as in `generate`.
        source, out: folders that all machines see, or URLs that fsspec opens.
        ext: what the results are written as: "png", "jpg" or "webp".
        group: pictures that are one piece of work.
        arguments: of `Generator.__call__`, such as `tile`.

    Raises:
        ArgumentError, BackendError: as `generate`; there are no pictures.
    """
    folders = Folders(
        model, source, out, ext, options=options or {}, arguments=arguments, threads=cluster.threads
    )
    numbers.whole("group", group)
    jobs = folders.jobs()
    store = open_store(out, "output")
    with _ray(cluster) as ray:
        resources = _resources(ray, cluster, folders.options)
        made = _claimed(ray, resources, lambda: Improver(folders).manifest, store)
        there = sums(store).keys() & store.pictures()
        missing = [(index, *pair) for index, pair in enumerate(jobs) if pair[1] not in there]
        report = Report(kept=len(jobs) - len(missing))
        work.check_resume(store, report.kept, resume)
        groups = [missing[at : at + group] for at in range(0, len(missing), group)]
        pieces = _pieces(ray, cluster, resources, _PictureWorker, (folders, made), groups, report)
        for row in pieces:
            report.images += row.count
            told(report.images + len(report.failures), len(missing))
    return report


# Actors ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """What became of a piece of work: images, bytes, seconds, (what, why) of what was not made."""

    count: int = 0
    bytes: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    failures: Sequence[tuple[str, str]] = ()


class _ShardWorker:
    def __init__(self, job: Job, made: Manifest) -> None:
        store = open_store(job.out)
        self._job, self._maker = job, work.Maker(work.load(job), job, store)
        manifests.agree(store, self._maker.manifest, made)

    def __call__(self, index: int) -> _Row:
        record = self._maker.make(self._job.shard(index))
        return _Row(record.shard.count, record.bytes, record.seconds, record.core_seconds)

    def name(self, index: int) -> str:
        return self._job.shard(index).name


class _PictureWorker:
    def __init__(self, folders: Folders, made: Manifest) -> None:
        self._improver = Improver(folders)
        manifests.agree(open_store(folders.out), self._improver.manifest, made)

    def __call__(self, group: Sequence[tuple[int, str, str]]) -> _Row:
        began, used = time.perf_counter(), time.process_time()
        done, size, failures = self._improver.run(group)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        return _Row(done, size, seconds, used, failures)

    def name(self, group: Sequence[tuple[int, str, str]]) -> str:
        return f"{group[0][1]} and {len(group) - 1} more"


class _Actor:
    """What Ray Data calls: a batch of one piece in, a row of what became of it out."""

    def __init__(self, kind: Any, arguments: tuple[Any, ...]) -> None:
        self._worker = kind(*arguments)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import pickle

        piece = pickle.loads(batch["piece"][0])
        try:
            row = self._worker(piece)
        except Exception as error:  # it is one piece that fails; the others still count
            row = _Row(failures=[(self._worker.name(piece), one_line(error))])
        return {"row": [pickle.dumps(row)]}


# Ray ---------------------------------------------------------------------------------------------


@contextmanager
def _ray(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; where this began it, it ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is raised here
    # Of a Ray that is begun here: its workers would have the least priority but four, and next to
    # nothing of a core that anything else computes on.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        instead = "pip install 'fastgan[scale]', or fastgan generate --shards, which needs none"
        raise BackendError("scale", "no ray", "Ray", instead) from None
    began = not ray.is_initialized()
    if began:
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if cluster.address is None:
                ray.init(
                    "local",
                    include_dashboard=False,
                    object_store_memory=_OBJECT_BYTES,
                    **quiet,
                )
            else:
                ray.init(cluster.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            found = f"{cluster.address}: {one_line(error)}"
            raise BackendError("--address", found, "a Ray cluster that runs") from None
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars = before
        if began:
            ray.shutdown()


def _resources(ray: Any, cluster: Cluster, options: Any) -> dict[str, Any]:
    """What Ray counts for an actor.

    Raises:
        BackendError: no machine of the cluster has so much.
    """
    gpus = cluster.gpus
    if gpus is None:
        wanted = options.get("device", "auto") != "cpu"
        gpus = 1.0 if wanted and ray.cluster_resources().get("GPU") else 0.0
    resources = {"num_cpus": cluster.threads, "num_gpus": gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(n.get("CPU", 0) >= cluster.threads and n.get("GPU", 0) >= gpus for n in nodes):
        found = f"no machine with {cluster.threads} processors and {gpus:g} GPUs"
        raise BackendError("cluster", found, "one that an actor fits on", "take fewer threads")
    return resources


def _workers(ray: Any, cluster: Cluster, resources: dict[str, Any]) -> int:
    """How many actors the cluster has room for."""
    if cluster.workers is not None:
        return cluster.workers
    count = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        rooms = [int(has.get("CPU", 0) // resources["num_cpus"])]
        if resources["num_gpus"]:
            rooms.append(int(has.get("GPU", 0) // resources["num_gpus"]))
        count += min(rooms)
    return max(1, count)


def _claimed(
    ray: Any, resources: dict[str, Any], manifest: Callable[[], Manifest], store: Store
) -> Manifest:
    """The manifest, as a worker has it: the one that loads the model on the device of the job; the
    store is claimed for it.

    Raises:
        FastganError: what a worker says of the model or the options, or the store is another's.
    """

    @ray.remote(max_retries=3, **resources)  # type: ignore[untyped-decorator, unused-ignore]
    def opening() -> Any:
        try:
            return manifest()
        except FastganError as error:
            return error

    found = ray.get(opening.remote())
    if isinstance(found, FastganError):
        raise found
    made: Manifest = found
    manifests.claim(store, made)
    if isinstance(store, Folder):
        store.sweep()
    return made


def _pieces(
    ray: Any,
    cluster: Cluster,
    resources: dict[str, Any],
    kind: Any,
    arguments: tuple[Any, ...],
    pieces: Sequence[Any],
    report: Report,
) -> Iterator[_Row]:
    """What became of each piece of work, as they end; counted in the report.

    Raises:
        ArgumentError: more of it failed than may.
    """
    import pickle

    if not pieces:
        return
    began: float | None = None  # the first piece that ends, when it began: actors are up by then
    rows = [{"piece": pickle.dumps(piece)} for piece in pieces]
    # Items need no task to be read, which would wait for a processor that the actors have.
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        fn_constructor_args=(kind, arguments),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=min(len(rows), _workers(ray, cluster, resources)), max_tasks_in_flight_per_actor=2
        ),
        **resources,
    )
    for batch in done.iter_batches(batch_size=1, prefetch_batches=0):
        row: _Row = pickle.loads(batch["row"][0])
        report.bytes += row.bytes
        report.core_seconds += row.core_seconds
        report.failures += row.failures
        now = time.perf_counter()
        began = now - row.seconds if began is None else began
        report.seconds = now - began
        yield row
        if len(report.failures) > cluster.max_failures:
            what, why = report.failures[-1]
            found = f"{len(report.failures)} failures, the last of {what}: {why}"
            needed = f"at most {cluster.max_failures}"
            raise ArgumentError("--max-failures", found, needed, "--resume goes on")
