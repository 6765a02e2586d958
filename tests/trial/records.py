"""A line of JSON for each case of a trial, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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

    def counts(self, key: str = "outcome") -> dict[str, int]:
        """How often each outcome occurred, the most frequent first."""
        return dict(Counter(str(r[key]) for r in self.results.values() if key in r).most_common())


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
