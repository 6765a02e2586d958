"""Options that several commands share, and those of `fastgan` itself.

A command names the type of its parameter here, and its own default beside it. What most of them
have together is a group: a parameter of the command, which `flat` takes apart for typer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from fastgan.cli import console

if TYPE_CHECKING:
    from fastgan.generator import Generator

_START = """\
Images from trained GAN and VAE generators. Three lines to try:

  fastgan generate dcgan-digits --grid 8x8     # 64 digits in one picture, out/grid.png
  fastgan models                               # what else there is to try
  fastgan inspect model.onnx                   # a file of your own: what it is, how it would run"""


def _verbose(value: bool) -> bool:
    if value:
        console.show_log(logging.DEBUG)
    return value


def _version(value: bool) -> None:
    if value:
        import fastgan

        typer.echo(f"fastgan {fastgan.__version__}")
        raise typer.Exit


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_verbose, help="Show the log on stderr.")
]


def models(incomplete: str) -> list[str]:
    """What a shell offers for a model: those that ship, ONNX files, and folders."""
    from glob import escape, glob

    from fastgan import models

    here = glob(f"{escape(incomplete)}*.onnx") + glob(f"{escape(incomplete)}*/")
    return [name for name in models.names() if name.startswith(incomplete)] + sorted(here)


def _model(example: str, files: str = "An ONNX file") -> Any:
    text = f"{files}, or a model that ships (see `fastgan models`): {example}."
    return typer.Argument(metavar="MODEL", autocompletion=models, help=text, show_default=False)


Model = Annotated[str, _model("dcgan-digits")]
ImageModel = Annotated[str, _model("superres-x4")]
#: Of commands that run bundles too.
_FILES = "An ONNX file, a bundle (.fgb)"
ModelOrBundle = Annotated[str, _model("dcgan-digits", _FILES)]
ImageModelOrBundle = Annotated[str, _model("superres-x4", _FILES)]
ModelIfAny = Annotated[str | None, _model("dcgan-digits", _FILES)]
Device = Annotated[
    str,
    typer.Option(help="auto (an NVIDIA GPU if there is one), cpu, cuda or cuda:1."),
]
Backend = Annotated[
    str, typer.Option(help="auto (the first that takes the model), triton, torch or ort.")
]
Precision = Annotated[
    str,
    typer.Option(
        help="auto (fp32 on a CPU, fp16 on a GPU), fp32, tf32, fp16, bf16, or fp8 (large layers in "
        "8 bits, on an NVIDIA GPU of compute capability 8.9 or later)."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="Images per run. Default: what suits the device's caches."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=1024, metavar="N", help="CPU threads it may use. Default: all cores."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on after an interruption: what is there already is kept."),
]
Metadata = Annotated[
    bool,
    typer.Option(
        "--metadata/--no-metadata",
        help="Let each picture say how it was made, for --resume and --like; or nothing.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail rather than fall back to another backend.")
]


@dataclass(frozen=True)
class Where:
    """Where a model runs; a group of options."""

    device: Device = "auto"
    backend: Backend = "auto"
    precision: Precision = "auto"

    @property
    def options(self) -> dict[str, Any]:
        """As `fastgan.load` takes them."""
        return {"device": self.device, "backend": self.backend, "precision": self.precision}

    def load(self, model: str, stated: Stated | None = None, **further: Any) -> Generator:
        """The model, on that."""
        import fastgan

        signature = None if stated is None else stated.signature()
        return fastgan.load(model, signature=signature, **self.options, **further)


@dataclass(frozen=True)
class Loading(Where):
    """How a model is loaded that makes pictures; a group of options."""

    threads: Threads = None
    strict: Strict = False

    @property
    def options(self) -> dict[str, Any]:
        """As `fastgan.load` takes them, but for the threads: a job's workers have their own."""
        return {**super().options, "strict": self.strict}

    def load(self, model: str, stated: Stated | None = None, **further: Any) -> Generator:
        """The model, so loaded."""
        return super().load(model, stated, threads=self.threads, **further)


# What is made ------------------------------------------------------------------------------------

Class = Annotated[
    str | None,
    typer.Option("--class", metavar="K", help="Class, by index or name. Default: random."),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Of each picture, for models that make any: 1024x512."),
]
Named = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="A further input of the model: w=0.7, w=[1,2] or w=w.npy. May be given again.",
    ),
]
Rng = Annotated[str, typer.Option(help="philox, or numpy for the latents of StyleGAN's tools.")]

# What a model takes and makes, where its file does not say it ------------------------------------

Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW:HIGH",
        help="Black and white of the picture that goes in: 0:1, -1:1 or 0:255. Default: what the "
        "model says, or a guess (`fastgan inspect` shows it).",
    ),
]
OutRange = Annotated[
    str | None,
    typer.Option(
        "--out-range", metavar="LOW:HIGH", help="Black and white of the result. Default: likewise."
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M,M,M",
        help="In place of --range: the model takes (picture - mean) / std of pictures in [0, 1], a "
        "number for each channel: 0.485,0.456,0.406.",
    ),
]
Std = Annotated[
    str | None, typer.Option(metavar="S,S,S", help="With --mean: 0.229,0.224,0.225. Default: 1.")
]


@dataclass(frozen=True)
class Stated:
    """What a model takes and makes, where its file does not say it; a group of options."""

    range: Range = None
    out_range: OutRange = None
    mean: Mean = None
    std: Std = None

    def __post_init__(self) -> None:
        self.signature()  # what is wrong is said before anything is done

    def signature(self) -> dict[str, Any] | None:
        """What they state, as `fastgan.load(signature=...)` takes it; None for nothing.

        Raises:
            ArgumentError: one of them is not made of numbers, or contradicts another.
        """
        from fastgan.errors import ArgumentError

        for option, value in (("--mean", self.mean), ("--std", self.std)):
            if value is not None and self.range is not None:
                raise ArgumentError("--range", f"{option} beside it", "one of the two")
        taken: dict[str, Any] = {}
        if self.range is not None:
            taken["range"] = _span("--range", self.range)
        if self.mean is not None:
            taken["mean"] = _numbers("--mean", self.mean, ",")
        if self.std is not None:
            taken["std"] = _numbers("--std", self.std, ",")
            if min(taken["std"]) <= 0:
                raise ArgumentError("--std", repr(self.std), "numbers above 0")
            if self.mean is not None and len(taken["mean"]) != len(taken["std"]):
                found = f"{len(taken['std'])} numbers"
                raise ArgumentError("--std", found, f"{len(taken['mean'])}, as --mean has")
        stated: dict[str, Any] = {}
        if taken:
            stated["inputs"] = [{"kind": "image", **taken}]
        if self.out_range is not None:
            stated["outputs"] = [{"kind": "image", "range": _span("--out-range", self.out_range)}]
        return stated or None


def _span(option: str, text: str) -> list[float]:
    numbers = _numbers(option, text, ":")
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        from fastgan.errors import ArgumentError

        raise ArgumentError(option, repr(text), "LOW:HIGH, such as 0:1 or -1:1")
    return numbers


def _numbers(option: str, text: str, separator: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(separator)]
    except ValueError:
        numbers = []
    if not numbers or not all(abs(number) < 1e30 for number in numbers):  # false for NaN
        from fastgan.errors import ArgumentError

        raise ArgumentError(option, repr(text), f"numbers with {separator!r} between them")
    return numbers


# Walks -------------------------------------------------------------------------------------------

Truncation = Annotated[
    float | None, typer.Option(metavar="T", help="Keep latents within -T and T.")
]
WalkFrames = Annotated[
    int, typer.Option(min=1, max=1_000_000, metavar="N", help="Frames from seed to seed.")
]
WalkSeeds = Annotated[
    str | None,
    typer.Option(metavar="SEEDS", help="A loop through these seeds instead: 0-7 or 1,2,5-9."),
]
DriftSeed = Annotated[int, typer.Option(help="Where the drift begins, without --seeds.")]
Osc = Annotated[int | None, typer.Option(metavar="PORT", help="Also listen to OSC on this port.")]


def label(text: str | None) -> int | str | None:
    """What `--class` names: a class index where the text is a number, else a class name."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it: a group's options in place of each parameter that is a group,
    and at the end --verbose, which every command has.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {k: hint for k, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            types = get_type_hints(groups[name], include_extras=True)
            made = [
                Parameter(
                    f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name]
                )
                for f in fields(groups[name])
            ]
            parameters += made
        else:
            parameters.append(
                parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])
            )

    parameters.append(
        Parameter("verbose", Parameter.KEYWORD_ONLY, default=False, annotation=Verbose)
    )

    def called(verbose: bool, **given: Any) -> None:
        for name, group in groups.items():
            own = {field.name: given.pop(field.name) for field in fields(group)}
            given[name] = group(**own)
        command(**given)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Images from trained GAN and VAE generators in ONNX, as fast as this machine allows."""
    console.show_log(logging.WARNING)
    if context.invoked_subcommand is None:
        names = ", ".join(context.command.list_commands(context))  # type: ignore[attr-defined]
        typer.echo(f"{_START}\n\n'fastgan COMMAND --help' teaches each of them: {names}.")
