"""`fastgan generate`: the files that it writes are the images that the library makes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import fastgan as library
from fastgan.cli import saving


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_n_writes_one_png_per_sample(fastgan, rgb, tmp_path) -> None:
    result = fastgan("generate", rgb, "--n", 5, "--seed", 3, "--outdir", tmp_path / "a" / "b")
    assert (result.code, result.err) == (0, "")
    files = sorted((tmp_path / "a" / "b").iterdir())
    assert [file.name for file in files] == [f"sample{i:06d}.png" for i in range(5)]
    expected = library.load(rgb, backend="torch").generate(5, seed=3, format="uint8").numpy()
    for file, image in zip(files, expected, strict=True):
        assert np.array_equal(read(file), image)


def test_start_continues_the_numbering_and_the_samples(fastgan, rgb, tmp_path) -> None:
    fastgan("generate", rgb, "--n", 4, "--outdir", tmp_path / "all")
    fastgan("generate", rgb, "--n", 2, "--start", 2, "--outdir", tmp_path / "rest")
    assert [f.name for f in sorted((tmp_path / "rest").iterdir())] == [
        "sample000002.png",
        "sample000003.png",
    ]
    for file in (tmp_path / "rest").iterdir():
        assert np.array_equal(read(file), read(tmp_path / "all" / file.name))


@pytest.mark.parametrize("rng", ["philox", "numpy"])
def test_seeds_write_one_png_per_seed(fastgan, rgb, tmp_path, rng) -> None:
    result = fastgan("generate", rgb, "--seeds", "7,2-3", "--rng", rng, "--outdir", tmp_path)
    assert result.code == 0, result.err
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "seed0002.png",
        "seed0003.png",
        "seed0007.png",
    ]
    generator = library.load(rgb, backend="torch")
    for seed in (2, 3, 7):
        expected = generator.generate(1, seed=seed, rng=rng, format="uint8")[0].numpy()
        assert np.array_equal(read(tmp_path / f"seed{seed:04d}.png"), expected)


def test_numpy_seeds_are_the_latents_of_stylegan(fastgan, rgb, tmp_path) -> None:
    fastgan("generate", rgb, "--seeds", 85, "--rng", "numpy", "--outdir", tmp_path)
    z = np.random.RandomState(85).randn(1, 6).astype(np.float32)
    generator = library.load(rgb, backend="torch")
    image = generator.run({"z": z})["image"][0].permute(1, 2, 0)
    expected = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    assert np.array_equal(read(tmp_path / "seed0085.png"), expected)


def test_grid_is_the_images_row_by_row(fastgan, rgb, tmp_path) -> None:
    result = fastgan("generate", rgb, "--grid", "3x2", "--seed", 1, "--outdir", tmp_path)
    assert result.code == 0, result.err
    picture = read(tmp_path / "grid.png")
    assert picture.shape == (16, 24, 3)
    images = library.load(rgb, backend="torch").generate(6, seed=1, format="uint8").numpy()
    for index, image in enumerate(images):
        y, x = 8 * (index // 3), 8 * (index % 3)
        assert np.array_equal(picture[y : y + 8, x : x + 8], image)


def test_a_grid_may_have_empty_cells(fastgan, rgb, tmp_path) -> None:
    assert fastgan("generate", rgb, "--grid", "2x2", "--n", 3, "--outdir", tmp_path).code == 0
    assert not read(tmp_path / "grid.png")[8:, 8:].any()


def test_grey_images_are_grey_files(fastgan, folder, tmp_path) -> None:
    assert fastgan("generate", folder / "grey.onnx", "--outdir", tmp_path).code == 0
    with Image.open(tmp_path / "sample000000.png") as picture:
        assert picture.mode == "L"
        expected = library.load(folder / "grey.onnx", backend="torch").generate(1, format="uint8")
        assert np.array_equal(np.asarray(picture), expected[0, :, :, 0].numpy())


@pytest.mark.parametrize(("label", "index"), [("2", 2), ("dog", 3)])
def test_class_by_index_and_by_name(fastgan, folder, tmp_path, label, index) -> None:
    path = folder / "classes.onnx"
    assert fastgan("generate", path, "--n", 2, "--class", label, "--outdir", tmp_path).code == 0
    expected = library.load(path, backend="torch").generate(2, labels=index, format="uint8")
    for i in range(2):
        assert np.array_equal(read(tmp_path / f"sample{i:06d}.png"), expected[i].numpy())


def test_truncation_reaches_the_latents(fastgan, rgb, tmp_path) -> None:
    assert fastgan("generate", rgb, "--trunc", 0.5, "--outdir", tmp_path).code == 0
    generator = library.load(rgb, backend="torch")
    expected = generator.generate(1, truncation=0.5, format="uint8")[0].numpy()
    assert np.array_equal(read(tmp_path / "sample000000.png"), expected)
    assert not np.array_equal(expected, generator.generate(1, format="uint8")[0].numpy())


def test_npy_holds_the_models_own_range(fastgan, rgb, tmp_path) -> None:
    assert fastgan("generate", rgb, "--n", 2, "--format", "npy", "--outdir", tmp_path).code == 0
    expected = library.load(rgb, backend="torch").generate(2).numpy()
    for i in range(2):
        array = np.load(tmp_path / f"sample{i:06d}.npy")
        assert array.dtype == np.float32
        assert np.array_equal(array, expected[i])


@pytest.mark.parametrize(("format", "name"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_other_formats(fastgan, rgb, tmp_path, format, name) -> None:
    assert fastgan("generate", rgb, "--format", format, "--outdir", tmp_path).code == 0
    with Image.open(tmp_path / f"sample000000.{format}") as picture:
        assert (picture.format, picture.size) == (name, (8, 8))


def test_more_images_than_a_chunk(fastgan, rgb, tmp_path) -> None:
    """Chunk by chunk, each image is still the sample of its own index."""
    n = 600
    arguments = ("--batch-size", 48, "--format", "npy", "--outdir", tmp_path)
    assert fastgan("generate", rgb, "--n", n, *arguments).code == 0
    assert len(list(tmp_path.iterdir())) == n
    generator = library.load(rgb, backend="torch")
    for index in (0, 47, 48, 63, 64, 191, 192, 599):
        array = np.load(tmp_path / f"sample{index:06d}.npy")
        expected = generator.generate(1, start=index)[0].numpy()
        assert np.abs(array - expected).max() <= 2e-5


def test_existing_files_are_replaced(fastgan, rgb, tmp_path) -> None:
    (tmp_path / "sample000000.png").write_text("something else")
    assert fastgan("generate", rgb, "--outdir", tmp_path).code == 0
    assert read(tmp_path / "sample000000.png").shape == (8, 8, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["sample000000.png"]


def test_it_says_what_ran_and_where_the_files_are(fastgan, rgb, tmp_path) -> None:
    out = fastgan("generate", rgb, "--n", 2, "--outdir", tmp_path).out
    assert "torch on cpu in fp32" in out
    assert "not triton" not in out  # which nobody asked of a CPU
    assert "2 images" in out
    assert "images/s" in out
    assert f"{tmp_path / 'sample000000.png'} to sample000001.png" in out


# Saving ------------------------------------------------------------------------------------------


def test_an_error_of_a_saver_is_raised_and_leaves_no_part(tmp_path, monkeypatch) -> None:
    """A disk that is full after three files: the error surfaces, whole files stay, no rest."""
    full = OSError(errno.ENOSPC, "No space left on device")
    real, written = np.save, []

    def save(file, array) -> None:
        real(file, array)
        if len(written) == 3:
            raise full
        written.append(file.name)

    monkeypatch.setattr(saving.np, "save", save)
    image = np.ones((2, 2), np.float32)

    def save_many() -> None:
        with saving.Saver(threads=1) as saver:
            for index in range(50):
                saver.put(tmp_path / f"{index}.npy", image)

    with pytest.raises(OSError, match="No space left") as caught:
        save_many()
    assert caught.value is full
    assert sorted(f.name for f in tmp_path.iterdir()) == ["0.npy", "1.npy", "2.npy"]


def test_an_error_of_the_last_file_is_raised(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), saving.Saver() as saver:
        saver.put(tmp_path / "missing" / "0.npy", np.ones(3))


def test_the_queue_is_bounded(tmp_path, monkeypatch) -> None:
    """`put` waits while so many files are unwritten."""
    unwritten, most, may_write = 0, [], threading.Semaphore(0)

    def write(path, array, facts) -> None:
        nonlocal unwritten
        may_write.acquire()
        unwritten -= 1

    monkeypatch.setattr(saving, "write", write)
    with saving.Saver(threads=1, waiting=2) as saver:
        for index in range(6):
            if index >= 2:
                threading.Timer(0.02, may_write.release).start()  # `put` waits for this one
            saver.put(tmp_path / "x.npy", np.ones(1))
            unwritten += 1
            most.append(unwritten)
        for _ in range(2):
            may_write.release()
    assert max(most) <= 2


def test_interrupted_it_leaves_whole_files(rgb, tmp_path) -> None:
    """Ctrl-C in the middle: exit code 130, one line, and every file that is there can be read."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    # A shell without job control starts what it puts in the background (`pytest &`) with SIGINT
    # ignored, and so its children: the command must hear it wherever the tests run.
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = f"{hear}; from fastgan.cli import main; main()"
    options = ["--n", "1000000", "--outdir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", run, "generate", str(rgb), *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("*.png")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.startswith("fastgan: interrupted; ")
    assert err.count("\n") == 1
    assert "of 1000000 images are saved; the same command with --resume goes on" in err
    files = list(tmp_path.iterdir())
    assert files
    assert all(file.suffix == ".png" and not file.name.startswith(".") for file in files)
    for file in files[:50]:
        assert read(file).shape == (8, 8, 3)


# Going on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [("--n", 40, "--start", 3), ("--seeds", "5-30,99,40-52")])
def test_resume_makes_what_is_missing_and_keeps_the_rest(fastgan, rgb, tmp_path, which) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert fastgan("generate", rgb, *which, "--outdir", whole).code == 0
    parts.mkdir()
    names = sorted(path.name for path in whole.iterdir())
    kept = [*names[:7], *names[10:11], *names[30:]]
    for name in kept:
        (parts / name).write_bytes(b"whole, as far as anybody knows")
    (parts / names[8]).write_bytes(b"")  # nothing of ours, and no picture
    outcome = fastgan("generate", rgb, *which, "--outdir", parts, "--resume")
    assert outcome.code == 0, outcome.err
    assert f"{len(kept)} images were there already" in outcome.out
    assert f"{40 - len(kept)} images: loaded" in outcome.out
    assert sorted(path.name for path in parts.iterdir()) == names
    for name in names:
        if name in kept:
            assert (parts / name).read_bytes() == b"whole, as far as anybody knows"
        else:
            assert np.abs(read(parts / name).astype(int) - read(whole / name)).max() <= 1
    outcome = fastgan("generate", rgb, *which, "--outdir", parts, "--resume")
    assert outcome.code == 0
    assert "nothing to do" in outcome.out


def test_a_killed_run_is_gone_on_with(fastgan, rgb, tmp_path) -> None:
    code = """if True:
        import itertools, os, sys
        from PIL import Image
        from fastgan.cli import main
        save, count = Image.Image.save, itertools.count()
        def dies(self, file, *a, **o):
            if next(count) == 100:
                file.write(b"half")
                file.flush()
                os.kill(os.getpid(), 9)
            save(self, file, *a, **o)
        Image.Image.save = dies
        main()
    """
    command = ["generate", str(rgb), "--n", "300", "--outdir", str(tmp_path)]
    died = subprocess.run([sys.executable, "-c", code, *command], check=False)
    assert died.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert fastgan(*command, "--resume").code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"sample{i:06d}.png" for i in range(300)]
    assert all(read(tmp_path / name).shape == (8, 8, 3) for name in names)


@pytest.mark.parametrize("which", [("--n", 4), ("--seeds", "0-3")])
def test_resume_keeps_no_other_pictures(fastgan, rgb, tmp_path, which) -> None:
    command = ["generate", rgb, *which, "--outdir", tmp_path]
    other = ["--seed", 5] if which[0] == "--n" else ["--trunc", 0.5]
    assert fastgan(*command).code == 0
    assert fastgan(*command, "--resume").code == 0
    outcome = fastgan(*command, *other, "--resume")
    assert outcome.code == 2
    assert f"{other[0].strip('-')} {other[1]}; another --outdir" in outcome.err


def test_resume_is_for_files(fastgan, rgb, tmp_path) -> None:
    outcome = fastgan("generate", rgb, "--grid", "2x2", "--resume", "--outdir", tmp_path)
    assert outcome.code == 2
    assert "--grid beside it" in outcome.err


# Models that are no plain image generators --------------------------------------------------------


def matrix(path: Path, batch: int | str) -> Path:
    """latent [batch, 6] -> [batch, 5], which is no image."""
    weight = numpy_helper.from_array(np.eye(6, 5, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["z", "w"], ["y"], "product")],
        "matrix",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [batch, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [weight],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.mark.parametrize("batch", ["n", 4])
def test_outputs_that_are_no_images_become_npy(fastgan, tmp_path, batch) -> None:
    """With an open batch, and with a batch of 4 that the file insists on."""
    path = matrix(tmp_path / "matrix.onnx", batch)
    result = fastgan("generate", path, "--n", 6, "--outdir", tmp_path / "out")
    assert result.code == 0, result.err
    latents = library.load(path, backend="torch").latents(6)
    for i in range(6):
        array = np.load(tmp_path / "out" / f"sample{i:06d}.npy")
        assert np.allclose(array, latents[i, :5].numpy(), atol=1e-6)
    result = fastgan("generate", path, "--format", "png", "--outdir", tmp_path / "out")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "'y', which is no image" in result.err


def test_a_model_that_takes_an_image_is_told_apart(fastgan, tmp_path) -> None:
    size = ["n", 3, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["photo"], ["image"], "tanh")],
        "filter",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "f.onnx")
    result = fastgan("generate", tmp_path / "f.onnx", "--outdir", tmp_path / "out")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "fastgan apply is for it" in result.err
    assert fastgan("compare", tmp_path / "f.onnx", "--n", 2).code == 0


@pytest.mark.parametrize(
    ("size", "message"),
    [("64", "such as 1024x512"), ("0x64", "such as 1024x512"), ("64x64", "a model of one size")],
)
def test_a_size_that_cannot_be(fastgan, rgb: Path, size: str, message: str) -> None:
    result = fastgan("generate", rgb, "--size", size)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert message in result.err
