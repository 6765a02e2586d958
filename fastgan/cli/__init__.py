"""The command line: `fastgan COMMAND`. One file per command: a function of its name, and examples.

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
        selftest,
        stream,
        train,
        video,
        warmup,
    )
    from fastgan.cli.convert import bundle, export
    from fastgan.cli.errors import Command, Commands
    from fastgan.cli.many import scale, serve
    from fastgan.cli.options import flat, root

    commands = typer.Typer(
        name="fastgan",
        cls=Commands,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    commands.callback(invoke_without_command=True, epilog=_examples(ROOT_EXAMPLES))(root)
    for module in (
        *(generate, apply, video, live, stream, inspect, profile, compare, serve, bench, warmup),
        *(models, evaluate, train, export, bundle, doctor, selftest),
    ):
        function = getattr(module, module.__name__.rpartition(".")[2])
        commands.command(cls=Command, epilog=_examples(module.EXAMPLES))(flat(function))
    masses = typer.Typer(rich_markup_mode=None, help=scale.ABOUT, no_args_is_help=True)
    masses.command(cls=Command, epilog=_examples(scale.GENERATE_EXAMPLES))(flat(scale.generate))
    masses.command(cls=Command, epilog=_examples(scale.APPLY_EXAMPLES))(flat(scale.apply))
    masses.command(cls=Command, epilog=_examples(scale.VERIFY_EXAMPLES))(flat(scale.verify))
    commands.add_typer(masses, name="scale")
    return commands


ROOT_EXAMPLES = """
fastgan generate dcgan-digits --grid 8x8  # 64 digits in one picture: out/grid.png
fastgan inspect model.onnx  # what a file holds, and how it would run
fastgan bench model.onnx  # how fast, beside ONNX Runtime and PyTorch
fastgan doctor  # what this machine has, and what is missing
"""


def _examples(text: str) -> str:
    """Example commands, "command  # meaning" each, as an epilog: each under what it does."""
    pairs = (line.split("  # ") for line in text.strip().splitlines())
    lines = [f"  # {meaning}\n  {command}" for command, meaning in pairs]
    return "\n".join(["\b", "Examples:", *lines])  # \b: keep these lines as they are
