"""`fastgan models`: the trained models that ship with fastgan."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fastgan.cli import console, options

EXAMPLES = """
fastgan models  # what there is to try
fastgan models dcgan-digits  # its card: data, licence, training, figures
fastgan inspect dcgan-digits  # what one of them takes and gives
"""


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show the card of this one.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the trained models that ship, or show one's card.

    Name, what comes in, size, the licence of its data, and what it does. Every command that takes
    a model takes these names in place of a file. A card has the model's data, training, figures
    and lines to try.
    """
    from fastgan import models as shipped
    from fastgan.model.file import read
    from fastgan.model.side_file import describe

    if name is not None and not as_json:
        typer.echo(shipped.card(name), nl=False)
        return
    names = shipped.names() if name is None else (name,)
    facts: list[dict[str, Any]] = [
        {
            "name": each,
            "path": str(shipped.path(each)),
            "takes": [port.kind for port in describe(read(shipped.path(each))).inputs],
            "bytes": shipped.path(each).stat().st_size,
            "licence": shipped.licence(each),
            "summary": shipped.summary(each),
        }
        for each in names
    ]
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    table = console.table("name", "takes", "size", "licence of the data", "", left=2)
    for column in table.columns[-2:]:
        column.justify = "left"
    for each in facts:
        size = console.number(each["bytes"], "B")
        table.add_row(
            each["name"], ", ".join(each["takes"]), size, each["licence"], each["summary"]
        )
    console.out().print(table)
    typer.echo("'fastgan models NAME' is a model's card, with lines to try.", err=True)
