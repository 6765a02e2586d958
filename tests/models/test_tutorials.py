"""Tutorials and recipes of docs/ do what they say: each is run from top to bottom, in an empty
folder; and the first three as notebooks, with a kernel of their own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastgan.cli import app

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/site"))
import notebooks  # noqa: E402

TUTORIALS = sorted([*ROOT.glob("docs/tutorials/*.md"), *ROOT.glob("docs/cookbook/*.md")])
#: What pages need that is not fastgan's own.
NEEDED = {"serving": ("kserve", "tritonclient"), "keras": ("keras",)}


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NEEDED.get(page.stem, ()):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'fastgan[test]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    names: dict[str, object] = {"__name__": page.stem}
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert {language for language, _ in blocks} <= {"python", "sh"}
    assert blocks
    for language, text in blocks:
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
            continue
        for line in text.strip().splitlines():
            program, *words = shlex.split(line, comments=True)
            assert program == "fastgan"
            done = CliRunner().invoke(app(), words)
            assert done.exit_code == 0, f"{line}: {done.output}"


@pytest.mark.slow
@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("nbclient", reason="no nbclient: pip install 'fastgan[test]'")
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install 'fastgan[test]'")
    pytest.importorskip("ipykernel", reason="no ipykernel: pip install 'fastgan[test]'")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))  # none of the user's own
    made = nbformat.reads(notebooks.notebook(ROOT / f"docs/tutorials/{name}.md"), as_version=4)
    nbformat.validate(made)
    where = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(made, timeout=600, resources=where).execute()  # raises what a cell does
    codes = [cell for cell in made.cells if cell.cell_type == "code"]
    assert len(codes) >= 3
    assert all(cell.execution_count for cell in codes)
    for cell in codes:  # a shell's error is none of Python's
        printed = "".join(output.get("text", "") for output in cell.outputs)
        assert "fastgan: " not in printed, printed


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("material", "mkdocstrings")),
    reason="no MkDocs: pip install 'fastgan[docs]'",
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page, text in (("commands", "--manifest"), ("api", "batches"), ("models", "dcgan-digits")):
        assert text in (tmp_path / page / "index.html").read_text()
