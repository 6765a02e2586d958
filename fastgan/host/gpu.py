"""What an NVIDIA GPU needs of a machine before torch and Triton can use it; what to install."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/version")

#: The oldest driver that a CUDA runtime of each major version works with (CUDA's release notes).
_OLDEST = {11: 450, 12: 525, 13: 580}

COMPILER = "a C compiler and Python's headers, with which Triton builds its launchers"
INSTALL = "apt install gcc python3-dev, or set CC"


def driver() -> str | None:
    """The version of NVIDIA's driver, such as "580.65.06"; None where there is none."""
    try:
        found = re.search(r"\b(\d{3,}\.[\d.]+)", _DRIVER.read_text())
    except OSError:
        return None
    return found.group(1) if found else None


def unusable() -> tuple[str, str] | None:
    """Why torch sees no GPU although there is a driver: what was found, and what is needed.

    None where there is no driver, or nothing is wrong that could be told.
    """
    import torch

    version, build = driver(), torch.version.cuda
    if version is None:
        return None
    if build is None:
        return f"a CPU build of torch ({torch.__version__})", (
            "a CUDA build of torch: pytorch.org/get-started has the command"
        )
    needed = _OLDEST.get(int(build.split(".")[0]), 0)
    if int(version.split(".")[0]) < needed:
        return f"driver {version} for torch's CUDA {build}", (
            f"driver {needed} or later, or a build of torch for an older CUDA, such as cu126"
            " (pytorch.org/get-started)"
        )
    return f"driver {version} and torch for CUDA {build}, which sees no GPU", (
        "a GPU that this process may use (CUDA_VISIBLE_DEVICES, the container's own setting)"
    )


def without_compiler() -> str | None:
    """What of `COMPILER` this machine lacks, or None."""
    lacking = []
    if not any(shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang") if name):
        lacking.append("a C compiler")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        lacking.append("Python.h")
    return " and ".join(lacking) or None
