"""The native parts build where they can, and the package installs where they can't."""

import ast
import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NVCC = shutil.which("nvcc")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="NVIDIA's compiler nvcc is not on PATH")


def constant(name: str) -> list[str]:
    """A list or tuple that setup.py assigns, read without running it."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py has no {name}")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources, free of what earlier builds left."""
    junk = shutil.ignore_patterns(".*", "build", "dist", "*.so", "*.egg-info", "__pycache__")
    for folder in ("fastgan", "kernels", "csrc"):
        shutil.copytree(ROOT / folder, tmp_path / "source" / folder, ignore=junk)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / file, tmp_path / "source")
    return tmp_path / "source"


def install(source: Path, target: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("pip", reason="pip is not installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(target), str(source)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def normals_of(target: Path) -> tuple[str, str]:
    """The way that the installed package samples, and what it samples."""
    code = (
        "import sys;"  # an editable install would lend its own compiled modules
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()];"
        "from fastgan import latents; import fastgan;"
        "print(fastgan.__file__, latents.available()['cpu native'], sep='|', end='|');"
        "print(latents.normal(3, 9, seed=5).numpy().tobytes().hex())"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=target
    )
    assert result.returncode == 0, result.stderr
    place, way, numbers = result.stdout.strip().split("|")
    assert Path(place).is_relative_to(target)
    return way, numbers


def test_without_a_compiler_the_install_is_pure_python(checkout, tmp_path):
    from fastgan import latents

    no_nvcc = os.pathsep.join(
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if not (Path(folder) / "nvcc").exists()
    )
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false", "PATH": no_nvcc}
    install(checkout, tmp_path / "site", environment)
    assert not list((tmp_path / "site").rglob("*.so"))
    assert (tmp_path / "site/fastgan/kernels/latents.py").exists()
    way, numbers = normals_of(tmp_path / "site")
    assert way == "None"
    assert numbers == latents.normal(3, 9, seed=5).numpy().tobytes().hex()


@needs_nvcc
@pytest.mark.nvcc
def test_a_failing_nvcc_is_said_aloud_and_not_fatal(checkout, tmp_path):
    (checkout / "csrc/latents/sampling.cu").write_text("#error not today\n")
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path / "lib")]
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false"}  # CUDA alone, for speed
    result = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert result.returncode == 0
    assert 'building extension "fastgan._native_cuda" failed' in result.stdout + result.stderr
    assert not list((tmp_path / "lib").rglob("_native_cuda*"))


@needs_nvcc
@pytest.mark.nvcc
@pytest.mark.parametrize("architecture", constant("CUDA_ARCHITECTURES"))
def test_the_cuda_sampler_compiles_without_spills(architecture, tmp_path):
    command = [NVCC, *constant("CUDA_FLAGS"), "-cubin", f"-arch=sm_{architecture}", "-Xptxas=-v"]
    command += [str(ROOT / "csrc/latents/sampling.cu"), "-o", str(tmp_path / "sampling.cubin")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", result.stderr)
    assert len(spills) == 5, "four distributions and the normalisation"
    assert set(spills) == {("0", "0")}
    assert "warning" not in result.stderr


@needs_nvcc
@pytest.mark.nvcc
def test_the_cuda_sampler_rounds_every_operation_on_its_own(tmp_path):
    ptx = tmp_path / "sampling.ptx"
    command = [
        NVCC,
        *constant("CUDA_FLAGS"),
        "-ptx",
        str(ROOT / "csrc/latents/sampling.cu"),
        "-o",
        ptx,
    ]
    subprocess.run(command, check=True)
    text = ptx.read_text()
    assert "fma." not in text
    assert ".ftz" not in text
    assert "approx" not in text
    assert "sqrt.rn.f32" in text
    assert "div.rn.f32" in text


def test_the_cuda_library_loads_without_a_gpu_and_reports_errors():
    from fastgan import latents

    library = latents._cuda_library()
    if library is None:
        pytest.skip("fastgan._native_cuda was not built")
    status = library.fastgan_cuda_sample(
        2, ctypes.c_void_p(), 1, 4, 0, 0, 0, 0.0, 0.0, 0.0, 4096, ctypes.c_void_p()
    )  # no such device
    assert status != 0
    assert library.fastgan_cuda_message(status)
