"""The native parts, all optional: a build that cannot make one says so and goes on without it.

`fastgan._native` runs models and samples latents on the CPU, and passes frames through shared
memory; its engine is libfastgan.so.1 too, for programs without Python (docs/bundle.md). Where
NVIDIA's nvcc is on PATH, `fastgan._native_cuda`, a plain shared library behind a C interface,
samples on the GPU.
"""

import os
import shutil
import subprocess
import sys
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

CPU_ROOMS = (
    *("", "latents/", "packing/", "bundle/"),
    *("runtime/", "runtime/kernels/", "runtime/records/", "runtime/tiles/"),
)
PYTHON_ONLY = ("frames.cpp", "results.cpp")  # not in libfastgan
LIBRARY = "libfastgan.so.1"
# Bit equality needs every operation rounded on its own, on both compilers.
CPU_FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
# GCC 12 warns of its own AVX-512 header.
CPU_FLAGS += ["-Wno-maybe-uninitialized", "-Wno-uninitialized"]
MSVC_FLAGS = ["/std:c++17", "/O2", "/fp:strict"]
CUDA_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-prec-div=true", "-prec-sqrt=true", "-ftz=false"]
CUDA_ARCHITECTURES = (80, 90, 100)
CUDA_PTX = 75  # what the driver compiles for any other GPU, older or newer


class CudaLibrary(Extension):
    """One .cu file that nvcc makes a shared library of."""


class BuildNative(build_ext):
    def copy_extensions_to_source(self) -> None:
        """What an editable install runs on; the library is no extension that setuptools knows."""
        super().copy_extensions_to_source()
        library = os.path.join(self.build_lib, "fastgan", LIBRARY)
        if os.path.exists(library):
            shutil.copy2(library, "fastgan")

    def build_extension(self, extension: Extension) -> None:
        if not isinstance(extension, CudaLibrary):
            super().build_extension(extension)
            if sys.platform == "linux":
                self.build_library(extension)
            return
        target = self.get_ext_fullpath(extension.name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        command = ["nvcc", *CUDA_FLAGS, "-shared", "-cudart", "static", "-Xcompiler", "-fPIC"]
        command.append(f"-gencode=arch=compute_{CUDA_PTX},code=compute_{CUDA_PTX}")
        try:
            known = subprocess.check_output(["nvcc", "--list-gpu-code"], text=True).split()
            for architecture in CUDA_ARCHITECTURES:
                if f"sm_{architecture}" in known:
                    command.append(f"-gencode=arch=compute_{architecture},code=sm_{architecture}")
            subprocess.run([*command, *extension.sources, "-o", target], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(f"nvcc: {error}") from error  # a warning: the extension is optional

    def build_library(self, extension: Extension) -> None:
        """libfastgan.so.1 beside the module, of the same objects (csrc/CMakeLists.txt too)."""
        flags = extension.extra_compile_args
        made = self.compiler.compile(
            sorted(glob("csrc/capi/*.cpp")), output_dir=self.build_temp, extra_postargs=flags
        )
        engine = [
            file
            for file in extension.sources
            if "bindings" not in file and not file.endswith(PYTHON_ONLY)
        ]
        objects = self.compiler.object_filenames(engine, output_dir=self.build_temp)
        # The module may be up to date by a build whose objects lay elsewhere.
        missing = [file for file, at in zip(engine, objects, strict=True) if not os.path.exists(at)]
        self.compiler.compile(missing, output_dir=self.build_temp, extra_postargs=flags)
        made += objects
        folder = os.path.dirname(self.get_ext_fullpath(extension.name))
        self.compiler.link_shared_object(
            made,
            os.path.join(folder, LIBRARY),
            extra_postargs=[
                *("-pthread", "-Wl,--version-script=csrc/capi/fastgan.map", "-Wl,-s"),
                f"-Wl,-soname,{LIBRARY}",
            ],
            target_lang="c++",
        )


def extensions() -> list[Extension]:
    headers = glob("csrc/**/*.h", recursive=True)
    found = []
    try:
        import pybind11
        from pybind11.setup_helpers import ParallelCompile
    except ImportError:
        print("fastgan: no fastgan._native, pybind11 is not installed", file=sys.stderr)
    else:
        ParallelCompile("FASTGAN_BUILD_JOBS").install()  # by default as many as there are CPUs
        found.append(
            Extension(
                "fastgan._native",
                sorted(file for room in CPU_ROOMS for file in glob(f"csrc/{room}*.cpp")),
                include_dirs=[pybind11.get_include()],
                depends=headers,
                language="c++",
                extra_compile_args=MSVC_FLAGS if os.name == "nt" else CPU_FLAGS,
                extra_link_args=[] if os.name == "nt" else ["-pthread"],
                optional=True,
            )
        )
    if shutil.which("nvcc"):
        found.append(
            CudaLibrary(
                "fastgan._native_cuda", ["csrc/latents/sampling.cu"], depends=headers, optional=True
            )
        )
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative})
