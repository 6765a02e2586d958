"""A line of JSON for each case of a trial, so that a killed one goes on where it was."""

from __future__ import annotations

import datetime
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import track

Case = TypeVar("Case")
Made = TypeVar("Made")


class Records:
    """Results by name in a file of lines. A case that ended the process is "crashed"."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.results: dict[str, dict[str, Any]] = {}
        for line in map(json.loads, lines):
            self.results[line.pop("name")] = line

    def cases(self, names: Iterable[Case], what: str, total: int | None = None) -> Iterator[Case]:
        """Those that have no result yet, each marked as begun, with a bar of progress."""
        for case in track(names, what, total=total):
            if str(case) not in self.results:
                self.add(str(case), outcome="crashed")
                yield case

    def add(self, name: str, **result: Any) -> None:
        """Note the result of a case; the last one counts."""
        self.results[name] = result
        with self._path.open("a") as file:
            print(json.dumps({"name": name, **result}), file=file)

    def finish(self, packages: Iterable[str], summary: Path | None) -> bool:
        """Print how often each outcome occurred; whether nothing was wrong.

        Args:
            packages: whose versions are told, where they are installed.
            summary: where to write it and what is not plain agreement, as JSON.
        """
        counts = dict(Counter(r["outcome"] for r in self.results.values()).most_common())
        versions = {name: tried(partial(version, name))[0] for name in sorted(packages)}
        told = {
            "date": datetime.date.today().isoformat(),
            "outcomes": counts,
            "versions": {name: number for name, number in versions.items() if number},
        }
        print(json.dumps(told, indent=1))
        if summary is not None:
            agree = (n for n, r in self.results.items() if r["outcome"] == "agrees")
            told["agree"] = " ".join(agree)
            others = {n: r for n, r in self.results.items() if r["outcome"] != "agrees"}
            told["others"] = {n: {k: r[k] for k in r if k != "ops"} for n, r in others.items()}
            summary.parent.mkdir(parents=True, exist_ok=True)
            summary.write_text(json.dumps(told, indent=1) + "\n")
        return not counts.keys() & {"wrong", "foreign", "crashed"}


def tried(call: Callable[[], Made]) -> tuple[Made | None, str]:
    """What a call returns and "", or None and what it raised, in a line."""
    try:
        return call(), ""
    except Exception as error:
        return None, said(error)


def said(error: BaseException) -> str:
    """An exception and the places in fastgan that it came through, in a line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "/fastgan/" in f.filename]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} ({' > '.join(own[-4:])}; in {frames[-1].name})"


def needs(package: str, how: str) -> None:
    """End the program where a trial's own package is absent."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        sys.exit(f"this trial needs {package}, which is not installed: {how}")
