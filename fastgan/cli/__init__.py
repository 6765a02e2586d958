"""The command line: `fastgan COMMAND`. One file per command, one function each.

Nothing here imports torch: each command does when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def main() -> None:
    """The console script `fastgan`."""
    try:
        app()()
    except KeyboardInterrupt:  # before a command had begun
        raise SystemExit(130) from None


def app() -> typer.Typer:
    """The commands, in the order in which `fastgan --help` lists them."""
    import typer

    from fastgan.cli import (
        apply,
        bench,
        compare,
        doctor,
        evaluate,
        generate,
        inspect,
        live,
        models,
        profile,
        stream,
        train,
        video,
        warmup,
    )
    from fastgan.cli.errors import Command, Commands
    from fastgan.cli.options import root

    commands = typer.Typer(
        name="fastgan",
        cls=Commands,
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    commands.callback(invoke_without_command=True, epilog=_examples(ROOT_EXAMPLES))(root)
    for function, examples in (
        (generate.generate, generate.EXAMPLES),
        (apply.apply, apply.EXAMPLES),
        (video.video, video.EXAMPLES),
        (live.live, live.EXAMPLES),
        (stream.stream, stream.EXAMPLES),
        (inspect.inspect, inspect.EXAMPLES),
        (profile.profile, profile.EXAMPLES),
        (compare.compare, compare.EXAMPLES),
        (bench.bench, bench.EXAMPLES),
        (warmup.warmup, warmup.EXAMPLES),
        (models.models, models.EXAMPLES),
        (evaluate.evaluate, evaluate.EXAMPLES),
        (train.train, train.EXAMPLES),
        (doctor.doctor, doctor.EXAMPLES),
    ):
        commands.command(cls=Command, epilog=_examples(examples))(function)
    return commands


ROOT_EXAMPLES = (
    ("fastgan generate dcgan-digits --grid 8x8", "64 digits in one picture: out/grid.png"),
    ("fastgan inspect model.onnx", "what a file holds, and how it would run"),
    ("fastgan bench model.onnx", "how fast, beside ONNX Runtime and PyTorch"),
    ("fastgan doctor", "what this machine has, and what is missing"),
)


def _examples(pairs: tuple[tuple[str, str], ...]) -> str | None:
    """Example commands as an epilog: each under a line that says what it does."""
    if not pairs:
        return None
    lines = [f"  # {meaning}\n  {command}" for command, meaning in pairs]
    return "\n".join(["\b", "Examples:", *lines])  # \b: keep these lines as they are
