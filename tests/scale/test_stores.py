"""Shards in places that are no folder: fsspec's memory and local file systems, and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from fastgan.errors import ArgumentError
from fastgan.scale import work
from fastgan.scale.shards import Job
from fastgan.scale.store import Remote, Store, open_store
from fastgan.scale.verify import verify
from tests.scale.test_shards import contents


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A bucket of a server of its own that speaks S3."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    )
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    name = tmp_path.name.replace("_", "-").lower()  # buckets outlive the server
    system.mkdir(name)
    yield f"s3://{name}/run"
    server.stop()


def below(url: str) -> dict[str, bytes]:
    """Every file below a URL, read by fsspec alone."""
    system, root = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    return {path[len(root) + 1 :]: system.cat_file(path) for path in system.find(root)}


def half_a_file(store: Store) -> None:
    with store.whole("a.tar") as file:
        file.write(bytes(1 << 20))
        raise ZeroDivisionError


def half_a_folder(store: Store) -> None:
    with store.folder("b") as folder:
        (folder / "c.png").write_bytes(b"1")
        raise ZeroDivisionError


def check(place: str, model: Path, folder: Path, format: str) -> None:
    """A run into `place`, one that goes on there, and one into a folder: the same bytes."""
    job = Job(str(model), place, 7, size=3, format=format)
    generator = work.load(job)
    work.run(generator, job, part=(1, 2))
    report = work.run(generator, job, resume=True)
    assert (report.shards, report.kept) == (2, 1)
    work.run(generator, Job(str(model), str(folder), 7, size=3, format=format))
    assert below(place) == contents(folder)
    assert verify(place)[0] == []


@pytest.mark.parametrize("format", ["webdataset", "png"])
def test_memory(models, tmp_path, format) -> None:
    check(f"memory://{tmp_path.name}-{format}", models / "rgb.onnx", tmp_path / "out", format)


@pytest.mark.parametrize("format", ["webdataset", "png", "parquet"])
def test_s3(models, tmp_path, bucket, format) -> None:
    check(bucket, models / "rgb.onnx", tmp_path / "out", format)


def test_a_file_system_that_shows_files_as_they_grow(models, tmp_path) -> None:
    """Of such one a name is taken when the file is whole: seen through fsspec's local one."""
    place = Remote("x", fsspec.filesystem("file"), str(tmp_path / "there"), at_once=False)
    with pytest.raises(ZeroDivisionError):
        half_a_file(place)
    assert place.names() == set()
    place.write("a.tar", b"all of it")
    assert contents(tmp_path / "there") == {"a.tar": b"all of it"}
    assert (place.read("a.tar"), place.read("b.tar")) == (b"all of it", None)


def test_what_fails_half_way_is_not_seen(bucket) -> None:
    for place in (bucket, "memory://half"):
        store = open_store(place)
        with pytest.raises(ZeroDivisionError):
            half_a_file(store)
        with pytest.raises(ZeroDivisionError):
            half_a_folder(store)
        assert store.names() == set()


@pytest.mark.parametrize("place", ["nosuch://bucket/x", "gs://bucket/x"])
def test_a_place_that_nothing_opens(place) -> None:
    with pytest.raises(ArgumentError, match="bucket/x"):
        open_store(place)


def test_a_file_is_no_place(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="a file"):
        open_store(tmp_path / "file")
