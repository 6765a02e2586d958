"""`fastgan models`: the trained models that ship with fastgan."""

from __future__ import annotations

from fastgan.cli import console

EXAMPLES = """
fastgan models  # what there is to try
fastgan inspect superres-x2  # what one of them takes and gives
"""


def models() -> None:
    """List the trained models that ship: name, what comes in, size, and what it does.

    Every command that takes a model takes these names in place of a file. The card of each,
    NAME.md beside the file, has its data, licence, training and measured figures.
    """
    from fastgan import models as shipped
    from fastgan.model.file import read
    from fastgan.model.side_file import describe

    table = console.table("name", "takes", "size", "", left=2)
    table.columns[-1].justify = "left"
    for name in shipped.names():
        kinds = ", ".join(port.kind for port in describe(read(shipped.path(name))).inputs)
        size = console.number(shipped.path(name).stat().st_size, "B")
        table.add_row(name, kinds, size, shipped.summary(name))
    console.out().print(table)
