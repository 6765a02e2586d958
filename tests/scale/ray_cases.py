"""What Ray Data makes is what one process makes: on one node, and on a cluster that loses one.

`test_ray` runs these in a process of their own: Ray ends the process that it was begun in where it
loses a part of itself, and waits without end for what does not come.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster as Nodes

import fastgan as library
from fastgan import scale
from fastgan.errors import ArgumentError, BackendError
from fastgan.scale.on_ray import Cluster
from fastgan.scale.verify import verify
from tests.drawing import new_random
from tests.scale.test_shards import contents

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
SMALL = {"object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def node() -> Iterator[None]:
    """Ray with one processor, begun once for several."""
    ray.init("local", num_cpus=1, include_dashboard=False, **SMALL, **QUIET)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """Three nodes of a cluster, in this machine; the first does not work."""
    nodes = Nodes(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL}
    )
    for _ in range(2):
        nodes.add_node(num_cpus=1, **SMALL)
    ray.init(nodes.address, **QUIET)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_nothing_has_to_be_started(models, tmp_path, fastgan, monkeypatch) -> None:
    init, priorities = ray.init, []

    def watched(*given: Any, **options: Any) -> None:
        init(*given, **options)
        priorities.append(ray.get(ray.remote(lambda: os.nice(0)).remote()))

    monkeypatch.setattr(ray, "init", watched)
    model, out = models / "rgb.onnx", tmp_path / "out"
    made = fastgan(
        *("scale", "generate", model, "--n", 5, "--shard-size", 2, "--out", out, "--workers", 2),
    )
    assert made.code == 0, made.err
    assert "3 shards made: 5 images" in made.out
    assert not ray.is_initialized()
    assert priorities == [os.nice(0)]  # what else computes here takes no more than its share
    alone = tmp_path / "alone"
    fastgan("generate", model, "--n", 5, "--shards", alone, "--shard-size", 2)
    assert contents(out) == contents(alone)


def test_a_node_that_is_lost_leaves_the_same_bytes(fastgan, models, tmp_path, machines) -> None:
    model, out = models / "classes.onnx", tmp_path / "ray"
    counts: list[int] = []

    def told(done: int, total: int) -> None:
        counts.append(done)
        if len(counts) == 3:
            machines.remove_node(next(iter(machines.worker_nodes)), allow_graceful=False)

    report = scale.generate(str(model), 6000, str(out), seed=7, shard_size=250, told=told)
    machines.add_node(num_cpus=1, **SMALL)
    assert (report.images, report.shards, report.failures) == (6000, 24, [])
    assert counts[-1] == 6000
    assert report.core_seconds > 0
    alone = tmp_path / "alone"
    fastgan(*("generate", model, "--n", 6000, "--seed", 7, "--shards", alone, "--shard-size", 250))
    assert contents(out) == contents(alone)
    assert verify(str(out))[0] == []


def test_a_run_goes_on_where_another_was(models, tmp_path, node, fastgan) -> None:
    model, out = str(models / "rgb.onnx"), tmp_path / "out"
    fastgan("generate", model, "--n", 40, "--shards", out, "--shard-size", 10, "--shard", "1/3")
    with pytest.raises(ArgumentError, match="1 shards of this run"):
        scale.generate(model, 40, str(out), shard_size=10)
    with pytest.raises(ArgumentError, match="another run: n 40"):
        scale.generate(model, 41, str(out), shard_size=10, resume=True)
    report = scale.generate(model, 40, str(out), shard_size=10, resume=True)
    assert (report.shards, report.kept) == (3, 1)
    assert verify(str(out))[0] == []


def test_pictures_that_fail_are_listed(models, tmp_path, node) -> None:
    random = np.random.default_rng(new_random().randrange(2**32))
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png", "c.jpg"):
        Image.fromarray(random.integers(0, 255, (24, 20, 3), np.uint8)).save(source / name)
    (source / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ArgumentError, match=r"1 failures, the last of broken\.png"):
        scale.apply("superres-x2", str(source), str(out), group=1)
    report = scale.apply(
        "superres-x2", str(source), str(out), resume=True, cluster=Cluster(max_failures=1)
    )
    assert [name for name, _ in report.failures] == ["broken.png"]
    assert report.images + report.kept == 3
    made = library.load("superres-x2")([source / "deep" / "b.png"], format="uint8")[0]
    np.testing.assert_array_equal(np.asarray(Image.open(out / "deep" / "b.png")), made)
    assert verify(str(out)) == ([("broken.png", "is missing")], 0, 4)


def test_what_a_worker_says_of_the_model(tmp_path, node) -> None:
    with pytest.raises(library.ModelFileError, match=r"nothing\.onnx"):
        scale.generate(str(tmp_path / "nothing.onnx"), 4, str(tmp_path / "out"))
    with pytest.raises(BackendError, match="64 processors"):
        scale.generate("dcgan-digits", 4, str(tmp_path / "out"), cluster=Cluster(threads=64))
    assert not list(tmp_path.iterdir())
