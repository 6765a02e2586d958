"""Notebooks of tutorials, made of their pages: prose, and a cell for each block of code."""

from __future__ import annotations

import re
from pathlib import Path

#: The tutorials that are notebooks too.
PAGES = ("first-model", "own-generator", "restore")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)


def notebook(page: Path) -> str:
    """The notebook of a page, as JSON. A line of a shell block is a line with `!`."""
    import nbformat
    from nbformat import v4

    text, cells, at = page.read_text(encoding="utf-8"), [], 0
    for block in _BLOCK.finditer(text):
        cells.append(v4.new_markdown_cell(text[at : block.start()].strip()))
        code = block[2].strip()
        if block[1] == "sh":
            code = "\n".join(f"!{line}" for line in code.splitlines())
        cells.append(v4.new_code_cell(code))
        at = block.end()
    cells.append(v4.new_markdown_cell(text[at:].strip()))
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"  # the same each time
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    return nbformat.writes(made)
