"""`fastgan generate --shards`, and what others read of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastgan as library
from tests.drawing import new_seed

FORMATS = ("webdataset", "parquet", "png")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder and below it, hidden ones too."""
    # Less what a writer that was killed left behind, which no reader takes for a shard.
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".fastgan-"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def pictures(folder: Path, format: str) -> dict[int, np.ndarray]:
    """Every sample of every shard, read by libraries that are not ours."""
    found: dict[int, bytes] = {}
    if format == "webdataset":
        webdataset = pytest.importorskip("webdataset")
        shards = sorted(str(path) for path in folder.glob("*.tar"))
        for sample in webdataset.WebDataset(shards, shardshuffle=False):
            found[int(sample["__key__"])] = sample["png"]
    elif format == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        for path in sorted(folder.glob("*.parquet")):
            for row in parquet.read_table(path).to_pylist():
                found[row["index"]] = row["image"]["bytes"]
    else:
        found = {int(path.stem): path.read_bytes() for path in sorted(folder.glob("*/*.png"))}
    return {key: np.asarray(Image.open(io.BytesIO(data))) for key, data in found.items()}


@pytest.mark.parametrize("format", FORMATS)
def test_the_samples_of_the_seed_are_there_once_each(fastgan, models, tmp_path, format) -> None:
    seed, out = new_seed(), tmp_path / "out"
    made = fastgan(
        *("generate", models / "classes.onnx", "--n", 11, "--seed", seed, "--start", 5),
        *("--shards", out, "--shard-size", 4, "--format", format, "--price-per-hour", 3),
    )
    assert made.code == 0, made.err
    assert "3 shards made: 11 images" in made.out
    assert "core-seconds per thousand" in made.out
    assert "for a million images" in made.out
    expected = library.load(models / "classes.onnx").generate(
        11, seed=seed, start=5, format="uint8"
    )
    found = pictures(out, format)
    assert sorted(found) == list(range(5, 16))
    for index, image in found.items():
        np.testing.assert_array_equal(image, expected[index - 5].numpy())
    assert fastgan("scale", "verify", out).code == 0


def test_labels_are_those_that_the_images_were_made_with(fastgan, models, tmp_path) -> None:
    webdataset = pytest.importorskip("webdataset")
    model, seed = models / "classes.onnx", new_seed()
    fastgan("generate", model, "--n", 6, "--seed", seed, "--shards", tmp_path / "out")
    generator = library.load(model)
    tars = [str(path) for path in (tmp_path / "out").glob("*.tar")]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len({sample["cls"] for sample in samples}) > 1
    for sample in samples:
        image = generator.generate(
            1, seed=seed, start=int(sample["__key__"]), labels=int(sample["cls"]), format="uint8"
        )
        read = np.asarray(Image.open(io.BytesIO(sample["png"])))
        np.testing.assert_array_equal(read, image[0].numpy())


def test_hugging_face_reads_pictures_and_classes(fastgan, models, tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    fastgan(
        *("generate", models / "classes.onnx", "--n", 5, "--shards", out, "--format", "parquet")
    )
    rows = datasets.Dataset.from_parquet(
        str(next(out.glob("*.parquet"))), cache_dir=str(tmp_path / "cache")
    )
    assert rows.features["label"].names == ["ant", "bee", "cat", "dog"]
    assert [row["index"] for row in rows] == list(range(5))
    assert rows[0]["image"].size == (8, 8)


@pytest.mark.parametrize("format", FORMATS)
def test_tasks_and_resumed_runs_make_the_same_bytes(fastgan, models, tmp_path, format) -> None:
    def run(out: Path, *more: object):
        return fastgan(
            *("generate", models / "rgb.onnx", "--n", 10, "--seed", 7, "--shards", out),
            *("--shard-size", 3, "--format", format, *more),
        )

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole).code == 0
    for task in (2, 0, 1):
        assert run(parts, "--shard", f"{task}/3").code == 0
    assert contents(parts) == contents(whole)

    # A record is written last: without it a shard counts as never begun, whatever is there.
    ending = {"webdataset": ".tar", "parquet": ".parquet", "png": "/000000000003.png"}[format]
    (parts / "seed7-000000000003-3.json").unlink()
    (parts / f"seed7-000000000003-3{ending}").write_bytes(b"half of it")
    again = run(parts, "--resume")
    assert "1 shards made, 3 there already" in again.out
    assert contents(parts) == contents(whole)
    # And what was lost is made again, whatever its record says.
    lost = parts / "seed7-000000000006-3"
    shutil.rmtree(lost) if format == "png" else lost.with_name(lost.name + ending).unlink()
    assert "1 shards made, 3 there already" in run(parts, "--resume").out
    assert contents(parts) == contents(whole)


def test_another_run_is_refused(fastgan, models, tmp_path) -> None:
    out = tmp_path / "out"

    def run(model: str, *more: object):
        return fastgan("generate", models / model, "--n", 4, "--shards", out, *more)

    assert run("rgb.onnx").code == 0
    for found, changed in (
        ("arguments", run("rgb.onnx", "--resume", "--trunc", 0.5)),
        ("seed 0", run("rgb.onnx", "--resume", "--seed", 1)),
        ("class_names", run("classes.onnx", "--resume")),
        ("1 shards of this run", run("rgb.onnx")),
    ):
        assert changed.code == 2
        assert found in changed.err
        assert "Traceback" not in changed.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    foreign = fastgan("generate", models / "rgb.onnx", "--shards", tmp_path / "other", "--n", 1)
    assert foreign.code == 2
    assert "letter.txt" in foreign.err


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--shard", "3/3"), "--shard"),
        (("--shard", "x"), "--shard"),
        (("--shard-size", 0), "--shard-size"),
        (("--format", "jpg"), "webdataset, parquet, png"),
        (("--grid", "2x2"), "--grid beside it"),
        (("--seeds", "0-3"), "--seeds beside it"),
    ],
)
def test_bad_options_are_one_line(fastgan, models, tmp_path, options, found) -> None:
    result = fastgan(
        *("generate", models / "rgb.onnx", "--n", 4, "--shards", tmp_path / "out", *options)
    )
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert found in result.err


def test_verify_finds_what_is_wrong(fastgan, models, tmp_path) -> None:
    def damaged(format: str, change) -> str:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        fastgan(
            *("generate", models / "rgb.onnx", "--n", 6, "--shards", out, "--shard-size", 3),
            *("--format", format),
        )
        change(out)
        result = fastgan("scale", "verify", out)
        assert result.code == 1
        assert "Traceback" not in result.err
        return result.err

    name = "seed0-000000000003-3"

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    assert "is missing" in damaged("webdataset", lambda out: (out / f"{name}.tar").unlink())
    assert "is missing" in damaged("webdataset", lambda out: (out / f"{name}.json").unlink())
    assert name in damaged("webdataset", lambda out: flip(out / f"{name}.tar"))
    assert name in damaged("parquet", lambda out: flip(out / f"{name}.parquet"))
    assert "checksum" in damaged("png", lambda out: flip(out / name / "000000000004.png"))
    assert "checksum" in damaged("png", lambda out: (out / name / "000000000004.png").unlink())
    assert "no part of this run" in damaged("png", lambda out: (out / "x").write_text(""))
    swapped = damaged(
        "webdataset",
        lambda out: shutil.copy(out / "seed0-000000000000-3.json", out / f"{name}.json"),
    )
    assert "record of other samples" in swapped
    nothing = fastgan("scale", "verify", tmp_path)
    assert (nothing.code, "manifest.json" in nothing.err) == (2, True)


def test_what_made_it_is_in_the_shard(fastgan, models, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    model, out = models / "rgb.onnx", tmp_path / "out"
    fastgan("generate", model, "--n", 2, "--shards", out / "tar")
    fastgan("generate", model, "--n", 2, "--shards", out / "parquet", "--format", "parquet")
    with tarfile.open(next((out / "tar").glob("*.tar"))) as tar:
        in_tar = json.loads(tar.pax_headers["comment"])
    metadata = parquet.read_schema(next((out / "parquet").glob("*.parquet"))).metadata
    in_parquet = json.loads(metadata[b"fastgan"])
    for made in (in_tar, in_parquet):
        assert made["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
        assert made["output"]["range"] == [-1.0, 1.0]
        assert {"torch", "fastgan"} <= set(made["versions"])
        assert (made["backend"], made["precision"], made["seed"]) == ("torch", "fp32", 0)
    tar_path = next((out / "tar").glob("*.tar"))
    record = json.loads(tar_path.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(tar_path.read_bytes()).hexdigest()
    assert record["made_by"] == in_tar


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(fastgan, models, tmp_path) -> None:
    arguments = [
        *("generate", str(models / "rgb.onnx"), "--n", "12000", "--shard-size", "300"),
        *("--shards", str(tmp_path / "out")),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "import fastgan.cli as c; c.main()", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "out").glob("*.json"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(list((tmp_path / "out").glob("seed*.json")))
    assert kept >= 3
    assert fastgan("scale", "verify", tmp_path / "out").code == 1
    rest = fastgan(*arguments, "--resume")
    assert f"{40 - kept} shards made, {kept} there already" in rest.out
    assert fastgan("scale", "verify", tmp_path / "out").code == 0
    assert not list((tmp_path / "out").glob(".*"))
