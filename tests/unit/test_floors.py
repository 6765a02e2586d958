"""The floors of the architecture: imports point down only (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: From the ground up; the rooms of one floor may import each other.
FLOORS = (
    {"errors", "limits", "host"},
    {"ops", "latents"},
    {"model", "models", "signature"},
    {"plan"},
    {"images", "inputs"},
    {"engine"},
    {"bundle"},
    {"apply", "realtime"},
    {"generator"},
    {"loading"},
    {"exporting", "measure", "onnx_backend"},
    {"recipes", "scale", "serve"},
    {"cli"},
)
#: Facts of kernels/ in plain Python, which every engine may ask.
PLAIN = {"phases"}
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def module_names(path: Path) -> str:
    """The room that a file belongs to: the first part of its path below fastgan/."""
    return path.relative_to(ROOT / "fastgan").parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] != "fastgan":
                continue
            if parts[1:2] == ["kernels"] and {*parts[2:], *(a.name for a in node.names)} & PLAIN:
                continue
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            rooms |= {name[1] for name in names if name[0] == "fastgan" and len(name) > 1}
    return rooms


SOURCES = sorted(p for p in (ROOT / "fastgan").rglob("*.py") if p.parent.name != "__pycache__")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = module_names(path)
    if room in ("__init__", "__main__"):
        return
    assert room in LEVEL, f"{room} stands on no floor: add it to FLOORS and docs/architecture.md"
    for other in imported_rooms(path) - {room}:
        if other == "kernels":
            allowed = "triton" in path.parts or room in ("latents", "cli", "measure")
            assert allowed, f"{path.name} imports kernels: only engine/triton may"
            continue
        if other in LEVEL:
            assert LEVEL[other] <= LEVEL[room], f"{path.name} ({room}) imports {other} from above"


def module(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """What a file imports of these, inside functions too, but not for types alone."""
    tree = ast.parse(path.read_text())
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If)]
    for_types = [n for n in blocks if ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for block in for_types for inner in ast.walk(block)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known - {module(path)}


def test_there_is_no_circle_within_rooms_either() -> None:
    paths = {module(path): path for path in SOURCES}
    imports = {name: imported_modules(path, set(paths)) for name, path in paths.items()}
    try:
        list(TopologicalSorter(imports).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("root", ["fastgan", "kernels", "csrc", "tests", "benchmarks"])
def test_no_room_is_a_hall(root: str) -> None:
    """At most 22 files of code in a folder, and 8 at the root of the package.

    What holds one file for each model or network is no code: `fastgan/models`, `tests/plans`.
    """
    kinds = {".c", ".cpp", ".cu", ".h", ".hpp", ".py"}
    for folder in {path.parent for path in (ROOT / root).rglob("*") if path.suffix in kinds}:
        files = [path.name for path in folder.iterdir() if path.suffix in kinds]
        most = 8 if folder == ROOT / "fastgan" else 22
        assert len(files) <= most, f"{folder.relative_to(ROOT)} has {len(files)} files"


KERNELS = sorted(p for p in (ROOT / "kernels").rglob("*.py") if p.parent.name != "__pycache__")


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_plain_facts_of_kernels_import_nothing(name: str) -> None:
    tree = ast.parse((ROOT / "kernels" / f"{name}.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {getattr(node, "module", None) for node in nodes}
    assert modules <= {"__future__", "dataclasses"}


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_know_nothing_of_fastgan(path: Path) -> None:
    assert not imported_rooms(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            assert node.module.split(".")[0] != "fastgan"


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter holds after running some code."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(result.stdout.split())


def test_import_fastgan_is_light() -> None:
    heavy = {"torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "triton", "rich", "typer"}
    assert not heavy & modules_after("import fastgan")


def test_load_imports_no_compiler(dcgan64_path: Path) -> None:
    heavy = {"torch._dynamo", "torch._inductor", "triton", "onnxruntime", "matplotlib", "rich"}
    heavy.add("torch.fx.experimental.symbolic_shapes")
    generates = f"import fastgan; fastgan.load({str(dcgan64_path)!r}).generate(1)"
    for code in (generates, "import fastgan; fastgan.load('superres-x4')"):
        assert not heavy & modules_after(code), code
