"""The rehearsed GPU that a dry run measures, and what goes wrong on it, for tests.

FASTGAN_REHEARSAL names the fault: "KIND KERNEL" throughout (kinds are those of
`fastgan/engine/triton/rehearsal/faults.py`), or as JSON kinds by "PART/CELL", each in its cell
alone: {"smoke/load": "crash"}.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def rehearsed(part: str) -> Iterator[Callable[[str], None]]:
    """The GPU, while a part runs; gives what is to be called with each cell's key beforehand."""
    from fastgan.engine.triton.rehearsal import rehearse

    text = os.environ.get("FASTGAN_REHEARSAL", "")
    by_cell: dict[str, str] = json.loads(text) if text.startswith("{") else {}
    with rehearse() as machine:
        if text and not by_cell:
            kind, _, kernel = text.partition(" ")
            machine.fault(kind, kernel)

        def begin(key: str) -> None:
            if by_cell:
                machine.heal()  # of what was for the cell before
            if kind := by_cell.get(f"{part}/{key}"):
                machine.fault(kind)
                if kind == "hang":  # who waits for this one's end need not be patient
                    faulthandler.dump_traceback_later(5.0, exit=True)

        yield begin
