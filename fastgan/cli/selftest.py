"""`fastgan selftest`: is every kernel right on this GPU? In a process that a fault may end."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fastgan.cli import options
from fastgan.errors import BackendError

EXAMPLES = """
fastgan selftest  # the kernels of a small model, a minute
fastgan selftest model.onnx  # those of your own
fastgan selftest --json  # for a report
"""


def selftest(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Files or names of models.")
    ] = None,
    device: Annotated[str, typer.Option(help="Such as cuda:1.")] = "cuda:0",
    precision: options.Precision = "auto",
    patience: Annotated[
        float, typer.Option(help="Seconds of silence after which a kernel counts as hung.")
    ] = 90.0,
    as_json: options.AsJson = False,
) -> None:
    """Hold every kernel to PyTorch's own operator on this GPU.

    A kernel that is wrong, crashes or hangs is not used from then on. Exit code 1 if any is.
    """
    from fastgan.host import gpu
    from fastgan.measure import selftest as measured

    if not as_json and gpu.unusable() is not None:
        typer.echo("; needed ".join(gpu.unusable() or ()))

    def told(row: measured.Row) -> None:
        if not as_json:
            line = f"  {row['what']} {row['kernel']} {row['format']}: {row['verdict']}"
            typer.echo(line)

    rows = measured.run(models or ["dcgan-digits"], device, precision, told, patience)
    wrong = [row for row in rows if row["verdict"] != measured.OK]
    if as_json:
        typer.echo(json.dumps({"rows": rows, "wrong": len(wrong)}, indent=1))
    elif not wrong:
        typer.echo(f"all {len(rows)} right")
    if len(wrong) == 1 and wrong[0]["what"] in ("load", "start"):
        raise BackendError("selftest", str(wrong[0]["verdict"]), "a GPU that kernels run on")
    if wrong:
        raise typer.Exit(1)
