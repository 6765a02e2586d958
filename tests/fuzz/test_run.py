"""Mutants, read, loaded and run on both engines: what they raise is ours, whatever they ask for.

In a process of their own with limits (`campaign`), since a mutant may end the process of a runtime,
work without end, or take all memory. The seeds are fixed; `campaign` tries others.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import campaign


@pytest.mark.parametrize(("of", "count"), [("data", 150), ("shipped", 16)])
def test_mutants_raise_errors_of_ours(of: str, count: int, tmp_path: Path, capsys) -> None:
    pytest.importorskip("onnxruntime")
    broken = campaign(count, "run", True, tmp_path, of)
    said = capsys.readouterr().out
    assert broken == 0, said
    assert f"{count} mutants" in said
    assert "runs" in said  # some of them do
