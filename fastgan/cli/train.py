"""`fastgan train`: train a recipe, with progress, sample grids and checkpoints, and export it."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from rich.progress import Progress

    from fastgan.recipes.gan import Settings


class Recipe(str, Enum):
    """The files in `fastgan/recipes` that train a network."""

    dcgan = "dcgan"


class Preset(str, Enum):
    """How long to train: `full` for a good model, `quick` to see that everything works."""

    full = "full"
    quick = "quick"


class Loss(str, Enum):
    """What the generator minimises."""

    non_saturating = "non-saturating"
    minimax = "minimax"


class Precision(str, Enum):
    """What the layers are computed in."""

    float32 = "float32"
    bf16 = "bf16"


def train(
    recipe: Annotated[Recipe, typer.Argument(help="What to train.")],
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of images. Without it: scikit-learn's handwritten digits."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where everything is written. Default: out/RECIPE.")
    ] = None,
    preset: Annotated[Preset, typer.Option(help="Where the other options start.")] = Preset.full,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Adam's step size.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights and samples.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Height and width: 32 or 64. Default: 32; 64 with --data.")
    ] = None,
    channels: Annotated[int, typer.Option(help="Of --data: 1 is grey, 3 is colour.")] = 3,
    hidden: Annotated[
        int | None, typer.Option(min=0, help="Dense layers in front; 0 is the plain seed network.")
    ] = None,
    loss: Annotated[Loss | None, typer.Option(help="What the generator minimises.")] = None,
    r1: Annotated[float | None, typer.Option(min=0, help="Weight of the R1 penalty.")] = None,
    spectral_norm: Annotated[
        bool | None, typer.Option(help="Normalise the discriminator's weights.")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="bf16 is faster on CPUs that have it.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
) -> None:
    """Train a generator and export it as ONNX.

    Sample grids, a checkpoint and the model are written to --out. Ctrl-C saves a checkpoint;
    --resume, with the same options, goes on from it exactly.
    """
    from fastgan.recipes import images, trainer

    if channels not in (1, 3):
        raise ArgumentError("--channels", str(channels), "1 or 3")
    given = {
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "size": size or (64 if data else None),
        "hidden": hidden,
        "loss": loss and loss.value,
        "r1": r1,
        "spectral_norm": spectral_norm,
        "precision": precision and precision.value,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    name = recipe.value
    module = import_module(f"fastgan.recipes.{name}")
    settings: Settings = replace(module.SETTINGS[preset.value], **chosen)
    folder = out or Path("out") / name

    if data is None:
        pictures, _ = images.digits("train", settings.size)
    else:
        pictures = images.folder(data, settings.size, channels)
    built = module.build(settings, pictures)

    with _progress() as progress:
        bar = progress.add_task(name, total=settings.steps, losses="")

        def show(step: int, losses: dict[str, float]) -> None:
            text = "  ".join(f"{key} {value:.3f}" for key, value in losses.items())
            progress.update(bar, completed=step, losses=text)

        outcome = trainer.train(
            built, folder, steps=settings.steps, seed=settings.seed, resume=resume, on_step=show
        )
        progress.update(bar, completed=outcome.step)
    if outcome.interrupted:
        typer.echo(f"Stopped and saved after step {outcome.step} of {settings.steps}.")
        typer.echo("To go on, give the same command with --resume.")
        raise typer.Exit(130)  # as a shell reports an interrupt
    file = folder / f"{name}.onnx"
    built.export(file)
    typer.echo(f"{file}: trained for {settings.steps} steps on {len(pictures)} images")
    typer.echo(f"{folder / 'samples'}: what it makes")


def _progress() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[losses]}"),
        TimeRemainingColumn(),
    )
