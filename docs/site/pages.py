"""Pages of the site that lie elsewhere or are made: a hook of MkDocs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import notebooks  # noqa: E402 - MkDocs reads this file from where it stands

#: What the pages link to beside docs/.
OUTSIDE = ("CONTRIBUTING.md", "fastgan/models/*.md", "fastgan/models/*.png")
RESULTS = "benchmarks/results/*/*.json"


def on_files(files: Files, config: Any) -> Files:
    """Add the cards and pictures of the models, and the page of every option."""
    for pattern in (*OUTSIDE, RESULTS):
        for path in sorted(ROOT.glob(pattern)):
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path)))
    files.append(File.generated(config, "commands.md", content=_commands()))
    for name in notebooks.PAGES:
        content = notebooks.notebook(ROOT / f"docs/tutorials/{name}.md")
        files.append(File.generated(config, f"tutorials/{name}.ipynb", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between docs/ and what lies beside it, as the site has them."""
    name = Path(page.file.src_uri).stem
    if page.file.src_uri == f"tutorials/{name}.md" and name in notebooks.PAGES:
        markdown += f"\n\nThis page as [a notebook]({name}.ipynb).\n"
    if page.file.src_uri == "CONTRIBUTING.md":
        return markdown.replace("](docs/", "](")
    above = "](../../" if "/" in page.file.src_uri else "](../"
    return re.sub(re.escape(above) + r"(?=fastgan/|benchmarks/|CONTRIBUTING)", above[:-3], markdown)


def _commands() -> str:
    """The help of each command, as it prints it."""
    import typer

    from fastgan.cli import app

    group = typer.main.get_command(app())
    found = ["# Every option", "What `fastgan COMMAND --help` prints."]
    for name, command in group.commands.items():
        context = command.context_class(
            command, info_name=f"fastgan {name}", terminal_width=100, max_content_width=100
        )
        found.append(f"## {name}\n\n```text\n{command.get_help(context).strip()}\n```")
    return "\n\n".join(found) + "\n"
