"""Memory that there is, and that a call is about to need: said before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from fastgan.errors import ArgumentError
from fastgan.host import address_space
from fastgan.limits import size_text

#: What a call may need without being asked: looking takes longer than a small run.
UNASKED = 256 << 20

_CGROUPS = Path("/sys/fs/cgroup")


def require(where: str, needed: int, found: str, device: torch.device, instead: str) -> None:
    """Refuse what can't be held.

    Args:
        where: the argument to blame.
        needed: bytes on the device.
        found: what needs them, for the error.
        instead: what the caller can do about it.

    Raises:
        ArgumentError: there is less memory than that.
    """
    if needed <= UNASKED:
        return
    there = available(device)
    if there is not None and needed > there:
        least = f"at most the {size_text(there)} that {device} has free"
        raise ArgumentError(where, f"{found}, {size_text(needed)}", least, instead)


def available(device: torch.device) -> int | None:
    """Bytes that can be had on a device; None where it can't be told.

    On a CPU the least of what the machine has, what each control group of this process may still
    take (cgroups, Linux), files that are cached counted as free, and its own limit (`ulimit -v`).
    On a GPU what the driver has, and what PyTorch keeps unused.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + int(unused)
    there = [size for size in (_machine(), *_groups(), address_space.left()) if size is not None]
    return min(there) if there else None


def _machine() -> int | None:
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        sizes = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1}
        return sizes["MemAvailable:"] + sizes.get("SwapFree:", 0)
    except (OSError, ValueError, KeyError):
        pass
    try:  # elsewhere: all that is installed is a bound as well
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _groups() -> list[int]:
    """What the memory groups of this process may still take: version 2, and version 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        old = "memory" in controllers.split(",")
        if controllers and not old:
            continue
        root = _CGROUPS / "memory" if old else _CGROUPS
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if old
            else ("memory.max", "memory.current", "inactive_file")
        )
        group = root / path.strip("/")
        # A container often sees its own group as the root, whatever the path says.
        for folder in {root, group, *(p for p in group.parents if root in p.parents)}:
            left = _left(folder, *names)
            if left is not None:
                found.append(left)
    return found


def _left(folder: Path, most: str, used: str, cached: str) -> int | None:
    limit, current = _number(folder / most), _number(folder / used)
    if limit is None or current is None or limit >= 1 << 60:  # "max", or version 1's word for it
        return None
    free = 0
    try:
        for line in (folder / "memory.stat").read_text("ascii").splitlines():
            name, _, size = line.partition(" ")
            free = int(size) if name == cached else free
    except (OSError, ValueError):
        pass
    return max(0, limit - current + free)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None
