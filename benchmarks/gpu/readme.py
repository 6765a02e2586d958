"""The README's figures of a GPU, from the folder of one run's evidence."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.gpu import summary
from benchmarks.gpu.paths import ROOT
from benchmarks.gpu.promises import promises, table

README = ROOT / "README.md"
BEGIN, END = "<!-- begin: gpu -->", "<!-- end: gpu -->"


def write(out: Path, readme: Path = README) -> None:
    """Replace what stands between the two marks.

    Args:
        out: the folder of the parts' JSON files, in the repository, since the README links to it.
        readme: the file to write to.

    Raises:
        ValueError: the run was a rehearsal without a GPU, or the README lacks its marks.
    """
    name = summary.gpu_name(out)
    if name is None:
        raise ValueError(f"{out}: found a run without a GPU, needed one with")
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme}: needed {BEGIN} and {END}, once each")
    parts = summary.cells(out)
    folder = os.path.relpath(out, readme.parent)
    lines = [
        f"Measured on one {name}, everything in one run ([raw, versions, command]({folder})):",
        "",
        *table(promises(parts)),
        "",
        *summary.fastest_table(parts),
    ]
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)
