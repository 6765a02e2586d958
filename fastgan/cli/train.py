"""`fastgan train`: train a recipe, with progress, sample grids and checkpoints, and export it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fastgan.cli import console, records
from fastgan.errors import ArgumentError
from fastgan.host import files
from fastgan.host.arguments import meant

EXAMPLES = """
fastgan train dcgan  # handwritten digits from noise
fastgan train superres --set scale=4  # photographs, four times as large
fastgan train style --set collection=paintings  # photographs, painted like a folder
fastgan train superres --data photos/ --preset full  # your own images, on a GPU
"""


#: The files in `fastgan/recipes` that train a network.
Recipe = Literal[
    "dcgan",
    "cgan",
    "vae",
    "aae",
    "texture",
    "superres",
    "denoise",
    "inpaint",
    "restore-rl",
    "translate",
    "style",
]
#: How long to train: for the model that ships, for a GPU, or just to try it.
Preset = Literal["quick", "ship", "full"]


@dataclass(frozen=True)
class Shared:
    """Settings that recipes share, `recipes.system.Settings`; a group of options."""

    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all.")] = None
    batch: Annotated[int | None, typer.Option(min=2, help="Images per step.")] = None
    lr: Annotated[float | None, typer.Option(min=0, help="Adam's step size.")] = None
    lr_end: Annotated[
        float | None,
        typer.Option(min=0, help="The last step's, as a multiple of --lr; a cosine leads there."),
    ] = None
    momentum: Annotated[
        float | None, typer.Option(min=0, max=0.999, help="Adam's first beta, below 1.")
    ] = None
    lr_discriminator: Annotated[
        float | None, typer.Option(min=0, help="The discriminator's, as a multiple of --lr.")
    ] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights and samples.")] = None
    size: Annotated[
        int | None, typer.Option(min=16, help="Height and width of the images or patches.")
    ] = None
    hidden: Annotated[
        int | None, typer.Option(min=0, help="dcgan: dense layers in front; 0 is the plain seed.")
    ] = None
    loss: Annotated[
        Literal["non-saturating", "minimax", "hinge"] | None,
        typer.Option(help="What the generator minimises."),
    ] = None
    label_smoothing: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="Real images are to be judged 1 - this.")
    ] = None
    r1: Annotated[float | None, typer.Option(min=0, help="Weight of the R1 penalty.")] = None
    spectral_norm: Annotated[
        bool | None, typer.Option(help="Normalise the discriminator's weights.")
    ] = None
    average: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much of the average stays, per step.")
    ] = None
    precision: Annotated[
        Literal["float32", "bf16"] | None,
        typer.Option(help="bf16 is faster where the processor has it."),
    ] = None
    device: Annotated[
        str | None, typer.Option(help="auto (an NVIDIA GPU if there is one), cpu or cuda.")
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(min=0, help="Stop after so many sample grids without a better score."),
    ] = None


def train(
    recipe: Annotated[Recipe, typer.Argument(help="What to train.")],
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of images. Without it: those that packages bring."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where everything is written. Default: out/RECIPE.")
    ] = None,
    preset: Annotated[Preset, typer.Option(help="Where the other options start.")] = "ship",
    channels: Annotated[
        int, typer.Option(help="Of --data, for dcgan: 1 is grey, 3 is colour.")
    ] = 3,
    how: Shared = Shared(),
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the recipe's own: scale=4."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option(help="Log losses and samples for TensorBoard, beside the samples.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    json_file: records.JsonFile = None,
) -> None:
    """Train a generator and export it as ONNX.

    Sample grids, a checkpoint and the model, RECIPE.onnx, are written to --out. Ctrl-C and SIGTERM
    save a checkpoint; --resume, with the same options, goes on from it exactly. Without --data the
    images are those of scikit-learn and scikit-image (pip install 'fastgan[train]').

    \b
    What they make, minutes of one core with --preset ship, [what --set sets]:
      dcgan      20  digits from noise [subject, latent, diversity]
      cgan        2  the digit that is asked for [latent, diversity]
      vae         1  digits, and an encoder of them [subject, latent, width, beta]
      aae         2  the same by a game [subject, latent, width, adversarial]
      texture     4  any size, tiles [texture, latent, width, reach, shrink, diversity]
      superres    5  photographs, enlarged [scale, width, blocks, *]
      denoise     5  photographs without noise, blur, JPEG damage [width, *]
      inpaint     8  photographs without holes [width, *]
      restore-rl  3  a denoiser tuned by rewards [actions, sigma, entropy, width, *]
      translate   1  grey pictures or drawings in colour [source, collection, width, *]
      style      14  photographs, painted [collection, shrink, cycle, width]
      * start, distance, adversarial, warm, vary

    docs/training.md says what the settings do. --hidden and --channels are dcgan's, --patience is
    of superres, denoise, inpaint and translate. --preset quick shows in a minute that all works.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    from fastgan.recipes import trainer

    if channels not in (1, 3):
        raise ArgumentError("--channels", str(channels), "1 or 3")
    module = import_module(f"fastgan.recipes.{recipe.replace('-', '_')}")
    start = module.SETTINGS[preset]
    given = {**vars(how), "size": how.size or (64 if data and recipe == "dcgan" else None)}
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    known = {field.name for field in fields(start)}
    for key in chosen.keys() - known:
        raise ArgumentError(f"--{key.replace('_', '-')}", f"the recipe {recipe}", "another recipe")
    settings = replace(start, **chosen, **_parsed(setting or [], start))
    folder = out or Path("out") / recipe
    file = folder / f"{recipe}.onnx"
    files.check_target("--out", file)
    # With a checkpoint beside it, the trainer says what to do.
    if file.exists() and not resume and not (folder / trainer.CHECKPOINT).exists():
        raise ArgumentError("--out", f"{file}, a model already", "a folder without one")

    account = records.Account("train", json_file)
    found = (
        module.data(settings, data, channels) if recipe == "dcgan" else module.data(settings, data)
    )
    built = module.build(settings, found)

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[losses]}")
    with console.progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task(recipe, total=settings.steps, losses="")

        def show(step: int, losses: dict[str, float]) -> None:
            text = "  ".join(f"{key} {value:.3f}" for key, value in losses.items())
            progress.update(bar, completed=step, losses=text)

        outcome = trainer.train(
            built,
            folder,
            steps=settings.steps,
            seed=settings.seed,
            resume=resume,
            patience=settings.patience,
            tensorboard=tensorboard,
            on_step=show,
        )
    if outcome.interrupted:
        typer.echo(f"Stopped and saved after step {outcome.step} of {settings.steps}. To go on:")
        words = [*sys.argv[1:], *([] if resume else ["--resume"])]
        typer.echo(f"  {shlex.join(['fastgan', *words])}")
        raise typer.Exit(128 + outcome.interrupted)  # as a shell reports it
    built.export(file)
    account.say(f"{file}: trained for {outcome.step} steps")
    account.say(f"{folder / 'samples'}: what it makes")
    account.close(
        written=str(file), samples=str(folder / "samples"), steps=outcome.step, recipe=recipe
    )


def _parsed(pairs: list[str], start: Any) -> dict[str, Any]:
    """NAME=VALUE pairs, each as the type that the setting has."""
    from fastgan.recipes.system import Settings

    shared = {field.name for field in fields(Settings)}  # those have options of their own
    own = [field.name for field in fields(start) if field.name not in shared]
    found: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in own:
            raise ArgumentError("--set", repr(key), "one of " + ", ".join(own), meant(key, own))
        kind = type(getattr(start, key))
        try:
            found[key] = value == "true" if kind is bool else kind(value)
        except ValueError:
            raise ArgumentError(
                f"--set {key}", repr(value), f"a value like {getattr(start, key)}"
            ) from None
    return found
