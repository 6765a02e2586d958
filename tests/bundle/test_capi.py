"""The C face: the same bytes as Python, from C, C++, Rust and ctypes; nothing allocated; errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan
from fastgan.bundle.write import write
from fastgan.loading import open_model
from tests.bundle import capi
from tests.bundle.conftest import INCLUDE, ROOT, Build, Bundled

HERE = Path(__file__).parent

pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True, params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def images_of(made: np.ndarray, expected: torch.Tensor) -> np.ndarray:
    return made.reshape(tuple(expected.shape))


@pytest.mark.parametrize("format", ["float32", "uint8"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["dcgan-digits", "cgan-digits", "vae-digits"])
def test_generate_is_pythons(
    name: str, batch: int, format: str, threads: int, library: capi.Library, bundled: Bundled
) -> None:
    file = fastgan.load(name, device="cpu")
    number = capi.UINT8 if format == "uint8" else capi.FLOAT32
    session = library.session(bundled(name), threads=threads, batch=batch, format=number)
    seed, start = 2**64 - 5, 2**40
    expected = file.generate(6, seed=seed, start=start, format=format)
    assert np.array_equal(
        images_of(session.generate(6, seed=seed, start=start), expected), expected.numpy()
    )
    rows = file.latents(6, seed=seed, start=start)
    assert np.array_equal(session.latents(6, seed, start), rows.numpy().reshape(6, -1))
    cut = file.generate(3, seed=1, truncation=0.6, format=format)
    assert np.array_equal(images_of(session.generate(3, seed=1, truncation=0.6), cut), cut.numpy())
    own = np.random.default_rng(3).standard_normal((5, *rows.shape[1:])).astype(np.float32)
    given = file.generate(5, latents=own, format=format)
    assert np.array_equal(images_of(session.generate(5, latents=own), given), given.numpy())
    if name == "cgan-digits":
        labels = [7, 0, 9, 9, 1]
        chosen = file.generate(5, seed=2, labels=labels, format=format)
        found = images_of(session.generate(5, seed=2, labels=labels), chosen)
        assert np.array_equal(found, chosen.numpy())
    session.close()


@pytest.mark.parametrize(
    ("name", "size"), [("superres-x4", (20, 28)), ("restore-photos", (24, 32))], ids=str
)
def test_apply_and_run_are_pythons(
    name: str, size: tuple[int, int], threads: int, library: capi.Library, bundled: Bundled
) -> None:
    file, path = fastgan.load(name, device="cpu"), bundled(name, size=size)
    pixels = np.random.default_rng(4).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    session = library.session(path, threads=threads, batch=4, format=capi.UINT8)
    expected = file(pixels, format="uint8")
    assert np.array_equal(images_of(session.apply(pixels), expected), expected.numpy())
    session.close()
    port, output = file.signature.image, file.signature.outputs[0].name
    assert port is not None
    floats = np.random.default_rng(5).random((4, 3, *size), dtype=np.float32)
    wanted = file.run({port.name: floats})[output].numpy()
    session = library.session(path, threads=threads, batch=4)
    made = session.run({port.name: floats}, {output: np.full(wanted.shape, 9, np.float32)})
    assert np.array_equal(made[output], wanted)
    with pytest.raises(capi.Error, match="numbers, needed"):
        session.run({port.name: floats[:1]}, {output: np.empty(wanted.shape, np.float32)})
    with pytest.raises(capi.Error, match="no input"):
        session.run({}, {output: np.empty(wanted.shape, np.float32)})
    with pytest.raises(capi.Error, match="fastgan_set"):
        session.generate(1)
    session.set(port.name, 0.25)
    session.generate(1)
    session.close()


@pytest.mark.parametrize("name", ["dcgan-digits", "cgan-digits"])
def test_bf16_is_pythons(name: str, threads: int, library: capi.Library, tmp_path: Path) -> None:
    path = tmp_path / "model.fgb"
    write(open_model(name), path, precision="bf16")
    expected = fastgan.load(path).generate(3, seed=5, format="uint8")
    session = library.session(path, threads=threads, format=capi.UINT8)
    assert np.array_equal(images_of(session.generate(3, seed=5), expected), expected.numpy())
    session.close()


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("size", [(100, 80), (32, 32), (33, 31), (9, 70)], ids=str)
@pytest.mark.parametrize(
    ("name", "scale"), [("superres-x4", 4), ("restore-photos", 1), ("style-tissue", 1)], ids=str
)
def test_tiles_are_pythons(
    name: str,
    scale: int,
    size: tuple[int, int],
    batch: int,
    threads: int,
    library: capi.Library,
    bundled: Bundled,
) -> None:
    path = bundled(name, size=(32, 32))
    pixels = np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = fastgan.load(path)(pixels, tile_pad=9, format="uint8")[0].numpy()
    session = library.session(path, threads=threads, batch=batch, format=capi.UINT8)
    assert expected.shape == (size[0] * scale, size[1] * scale, 3)
    assert np.array_equal(session.apply_tiled(pixels, 9, expected.shape), expected)
    with pytest.raises(capi.Error, match="bytes, needed"):
        session.apply_tiled(pixels[:1], 9, (1, 1, 1))
    session.close()
    session = library.session(path, threads=threads, batch=batch)
    planes = np.random.default_rng(5).random((3, *size), dtype=np.float32)
    whole = fastgan.load(path)(torch.from_numpy(planes), tile_pad=9)[0].numpy()
    assert np.array_equal(session.apply_tiled(planes, 9, whole.shape), whole)
    session.close()


def test_a_field_of_latents_makes_its_size(
    threads: int, library: capi.Library, bundled: Bundled
) -> None:
    size = (64, 48)
    session = library.session(bundled("texture-gravel", size=size), threads=threads)
    expected = fastgan.load("texture-gravel", device="cpu").generate(2, seed=8, size=size)
    assert (session.program.height, session.program.width) == size
    assert np.array_equal(images_of(session.generate(2, seed=8), expected), expected.numpy())
    session.close()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"threads": -1}, "threads: needed 0 to 256"),
        ({"threads": 257}, "threads: needed 0 to 256"),
        ({"batch": -1}, "batch"),
        ({"height": -8, "width": 8}, "height, width"),
        ({"format": 2}, "FASTGAN_UINT8"),
    ],
    ids=str,
)
def test_what_is_wrong_with_settings_is_said(
    settings: dict[str, int], text: str, library: capi.Library, bundled: Bundled
) -> None:
    with pytest.raises(capi.Error, match=f"settings: .*{text}") as error:
        library.session(bundled("dcgan-digits"), **settings)
    assert error.value.status == capi.ARGUMENT


def test_cancel_and_a_second_call(library: capi.Library, bundled: Bundled) -> None:
    session = library.session(bundled("dcgan-digits"), format=capi.UINT8)
    session.cancel()
    with pytest.raises(capi.Error) as error:
        session.generate(3)
    assert error.value.status == capi.CANCELLED
    found: list[int] = []

    def other() -> None:
        while capi.CANCELLED not in found:
            try:
                session.generate(200_000)
            except capi.Error as error:
                found.append(error.status)

    long = threading.Thread(target=other)
    long.start()
    busy = False
    while not busy:  # until the other one has begun
        try:
            session.generate(1)
        except capi.Error as error:
            busy = error.status == capi.BUSY
    session.cancel()
    long.join(60)
    assert set(found) - {capi.BUSY} == {capi.CANCELLED}
    session.close()


def test_sessions_of_several_threads_do_not_meet(
    threads: int, library: capi.Library, bundled: Bundled
) -> None:
    expected = fastgan.load("dcgan-digits", device="cpu").generate(40, seed=3, format="uint8")
    wrong: list[int] = []

    def work(first: int) -> None:
        session = library.session(bundled("dcgan-digits"), threads=threads, format=capi.UINT8)
        for i in range(first, 40, 4):
            made = images_of(session.generate(1, seed=3, start=i), expected[:1])
            if not np.array_equal(made, expected[i : i + 1].numpy()):
                wrong.append(i)
        session.close()

    all_ = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in all_:
        thread.start()
    for thread in all_:
        thread.join()
    assert not wrong


def test_what_a_program_does_wrong(
    threads: int, library_path: Path, compile_with: Build, bundled: Bundled
) -> None:
    if threads == 1:
        program = compile_with(ROOT / "csrc" / "capi" / "misuse.c")
        subprocess.run([program, bundled("dcgan-digits")], check=True, timeout=60)


@pytest.mark.parametrize("format", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("name", "size"),
    [("dcgan-digits", None), ("cgan-digits", None), ("superres-x4", (16, 16))],
    ids=str,
)
def test_a_prepared_call_allocates_nothing(
    name: str,
    size: tuple[int, int] | None,
    format: str,
    threads: int,
    compile_with: Build,
    bundled: Bundled,
) -> None:
    if not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("malloc is counted by glibc's own names")
    program = compile_with(HERE / "allocations.c")
    extra = ["floats"] if format == "float32" else []
    command = [program, bundled(name, size=size), str(threads), "4", *extra]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert made.stdout == "0\n", made.stderr


def test_the_png_example(
    threads: int, compile_with: Build, bundled: Bundled, tmp_path: Path
) -> None:
    source = ROOT / "examples" / "seed_to_png.c"
    assert len(source.read_text().splitlines()) < 80
    config = shutil.which("pkg-config")
    found = config and subprocess.run([config, "--libs", "libpng"], capture_output=True, text=True)
    if not found or found.returncode:
        pytest.skip("libpng's headers are not installed: apt install libpng-dev")
    program = compile_with(source, *found.stdout.split())
    for name, more in (("dcgan-digits", []), ("cgan-digits", ["4"])):
        picture = tmp_path / f"{name}.png"
        subprocess.run([program, bundled(name), "7", picture, *more], check=True, timeout=60)
        file = fastgan.load(name, device="cpu")
        wanted = file.generate(1, seed=7, labels=4 if more else None, format="uint8")
        assert np.array_equal(np.asarray(Image.open(picture)), wanted[0, :, :, 0].numpy())
    bad = subprocess.run(
        [program, picture, "7", tmp_path / "x.png"], capture_output=True, text=True
    )
    assert bad.returncode == 2
    assert "no bundle" in bad.stderr


def test_cpp_and_rust_callers(
    threads: int, compile_with: Build, library_path: Path, bundled: Bundled, tmp_path: Path
) -> None:
    wanted = fastgan.load("dcgan-digits", device="cpu").generate(2, seed=11, format="uint8")
    path = bundled("dcgan-digits")
    program = compile_with(HERE / "owners.cpp")
    made = subprocess.run([program, path], check=True, capture_output=True, timeout=60)
    assert made.stdout == wanted.numpy().tobytes()
    if threads > 1:
        return
    compiler = shutil.which("rustc")
    if compiler is None:
        pytest.skip("rustc is not installed: Rust's caller was not tried")
    target = tmp_path / "caller"
    link = [f"link-arg={library_path}", f"link-arg=-Wl,-rpath,{library_path.parent}"]
    command = [compiler, str(HERE / "caller.rs"), "-o", str(target)]
    subprocess.run([*command, *(f"-C{arg}" for arg in link)], check=True, timeout=120)
    made = subprocess.run([target, path], check=True, capture_output=True, timeout=60)
    assert made.stdout == wanted.numpy().tobytes()


def test_what_the_library_shows_and_needs(library_path: Path) -> None:
    if shutil.which("nm") is None or shutil.which("readelf") is None:
        pytest.skip("nm and readelf are not installed: apt install binutils")
    listed = subprocess.check_output(["nm", "-D", "--defined-only", library_path], text=True)
    names = {line.split()[-1].split("@")[0] for line in listed.splitlines()}
    declared = set(re.findall(r"\b(fastgan_\w+)\(", (INCLUDE / "fastgan.h").read_text()))
    assert names - {"FASTGAN_1"} == declared - {"fastgan_settings"}
    needed = subprocess.check_output(["readelf", "-d", library_path], text=True)
    libraries = {name.split(".so")[0] for name in re.findall(r"NEEDED.*\[(.*)\]", needed)}
    allowed = {"libstdc++", "libm", "libc", "libpthread", "libgcc_s", "ld-linux-x86-64"}
    assert libraries <= allowed
    assert library_path.stat().st_size < 3 * 10**6


def test_the_package_says_its_flags(
    threads: int, library_path: Path, bundled: Bundled, tmp_path: Path
) -> None:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: neither gcc nor clang is on PATH")
    if threads > 1:
        return
    command = [sys.executable, "-m", "fastgan.include"]
    flags = subprocess.check_output(command, text=True, cwd=tmp_path).split()
    target = tmp_path / "misuse"
    source = ROOT / "csrc" / "capi" / "misuse.c"
    subprocess.run([compiler, str(source), *flags, "-o", str(target)], check=True)
    subprocess.run([target, bundled("dcgan-digits")], check=True, timeout=60)
