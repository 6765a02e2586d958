"""A part's JSON file: results by key, each kept as soon as it is there.

A part may be lost at any cell, by a crash, a hang or an error that ends the CUDA context: which one
it was stands in the file, that cell alone is given up, and the next process goes on behind it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.paths import LOST


class Cells:
    """See the module.

    Args:
        path: the file; what is there is not made again.
        deadline: of `time.monotonic()`, when to stop beginning cells.
        patience: seconds after which a cell is a hang, and ends the process; None: never.

    Attributes:
        begin: is called with the key of each cell before it is made.
    """

    def __init__(self, path: Path, deadline: float, patience: float | None = None) -> None:
        self.path, self.deadline, self.patience = path, deadline, patience
        self.data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.data.setdefault("cells", {})
        self.data["complete"] = False
        self.begin: Callable[[str], None] = lambda key: None
        self._late = False
        running = self.data.pop("running", None)
        if running is not None:
            self.data["cells"][running] = {"error": "its process crashed or hung"}

    def fill(self, key: str, make: Callable[[], Any]) -> None:
        """Make a cell, unless it is there or time is up; an error is a result too."""
        if key in self.data["cells"]:
            return
        if time.monotonic() > self.deadline:
            self._late = True
            return
        self.data["running"] = key
        self.save()
        began = time.monotonic()
        if self.patience is not None:
            faulthandler.dump_traceback_later(self.patience, exit=True)
        try:
            self.begin(key)
            result = make()
        except Exception as error:  # whatever a peer raises
            text = " ".join(str(error).split())[:300]
            result = {"error": f"{type(error).__name__}: {text}"}
        finally:
            faulthandler.cancel_dump_traceback_later()
        result["took"] = round(time.monotonic() - began, 3)
        self.data["cells"][key] = result
        del self.data["running"]
        self.save()
        print(f"  {key}: {short(result)}", flush=True)
        gc.collect()
        if torch.cuda.is_available() and "error" in result:
            self._see_whether_lost()

    def _see_whether_lost(self) -> None:
        """A device that has failed fails for every cell after this one."""
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except Exception as error:
            print(f"  the GPU has failed: {short({'error': str(error)})}", flush=True)
            sys.stdout.flush()
            os._exit(LOST)

    def finish(self) -> None:
        """Nothing is to be made any more, unless time was up."""
        self.data["complete"] = not self._late
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        _write(self.path, self.data)


def give_up(path: Path, code: int) -> str | None:
    """Give up the cell that a process was lost in, which ended with `code`; None: in none."""
    data = json.loads(path.read_text()) if path.exists() else {"cells": {}}
    key = data.pop("running", None)
    if key is not None:
        data["cells"][key] = {"error": f"its process was lost ({code})"}
    elif code != LOST:
        data["error"] = f"its process ended with {code}"
    _write(path, data)
    return key or ("the cell before" if code == LOST else None)


def _write(path: Path, data: dict[str, Any]) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(data, indent=1))
    os.replace(draft, path)


def short(result: dict[str, Any]) -> str:
    """A cell in a line."""
    if "error" in result:
        return str(result["error"])
    shown = {k: v for k, v in result.items() if isinstance(v, (int, float, str, bool))}
    return " ".join(
        f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in shown.items()
    )
