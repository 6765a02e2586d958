"""`fastgan doctor`: what this machine has, what is missing, and what to run."""

from __future__ import annotations

import json

import typer

from fastgan.cli import options

EXAMPLES = """
fastgan doctor  # paste this into an issue
"""


def doctor(
    as_json: options.AsJson = False,
) -> None:
    """Report what this machine has, and what is missing.

    Versions, CPU, GPUs, backends, the native parts and compilers, and what to run for those that
    are missing. It never fails.
    """
    from fastgan.measure import diagnosis

    report = diagnosis.examine()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    width = max(len(name) for name in report["facts"])
    for name, value in report["facts"].items():
        typer.echo(f"{name:<{width}}  {value}")
    typer.echo("")
    if not report["missing"]:
        typer.echo("Nothing that fastgan needs here is missing.")
        return
    typer.echo("What is missing, and what to do:")
    for line in report["missing"]:
        typer.echo(f"  - {line}")
