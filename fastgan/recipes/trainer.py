"""The training loop that every recipe shares: progress, sample grids, checkpoints, exact resume.

A run that is interrupted and resumed gives, bit for bit, the weights of one that was not: all
randomness of a step comes from one generator, whose state is in the checkpoint with everything
else that changes, and a Ctrl-C or SIGTERM waits for the end of the step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastgan.errors import ArgumentError, FastganError
from fastgan.host import files
from fastgan.recipes.images import grid
from fastgan.recipes.system import System

CHECKPOINT = "checkpoint.pt"
_VERSION = 1


class TrainingError(FastganError):
    """Training went wrong: a loss is not finite, or the checkpoint is of another run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: the last one that was trained.
        interrupted: the signal that ended it before its last step; 0 for none.
    """

    step: int
    interrupted: int
    losses: dict[str, float]


def train(
    recipe: System,
    out: Path,
    *,
    steps: int,
    seed: int,
    resume: bool = False,
    samples_every: int = 250,
    checkpoint_every: int = 500,
    patience: int = 0,
    tensorboard: bool = False,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> Outcome:
    """Train `recipe` up to step `steps`; write grids and checkpoints into the folder `out`.

    Args:
        resume: go on from the checkpoint in `out`. Without it, a checkpoint there is an error:
            no run is overwritten by accident.
        patience: stop, saved and finished, after so many sample grids without a better `score`;
            0 never does. A resumed run counts anew.
        tensorboard: log losses, samples and the score into `out`/tensorboard.
        on_step: called after each step with its number, from 1, and its losses.

    Raises:
        ArgumentError: there is no checkpoint to resume, or one that would be overwritten; or
            `patience` for a recipe without a score; or TensorBoard is not installed.
        TrainingError: a loss is not finite, or the checkpoint is of other settings.
    """
    file = out / CHECKPOINT
    if resume and not file.is_file():
        raise ArgumentError("--resume", f"no {file}", "the folder of an earlier run as --out")
    if not resume and file.exists():
        instead = "say --resume to go on with it, or another --out"
        raise ArgumentError(str(file), "the checkpoint of an earlier run", "a new folder", instead)
    if patience and recipe.score() is None:
        raise ArgumentError("--patience", f"the recipe {recipe.name}", "a recipe with a score")
    log = _writer(out / "tensorboard") if tensorboard else None
    (out / "samples").mkdir(parents=True, exist_ok=True)
    files.sweep(out)
    draw = torch.Generator().manual_seed(seed)
    first = _load(file, recipe, draw) if resume else 0

    losses: dict[str, float] = {}
    scores: list[float] = []
    with _interrupt() as signals, log or nullcontext():
        for step in range(first + 1, steps + 1):
            losses = recipe.step(draw)
            bad = [name for name, loss in losses.items() if not abs(loss) < float("inf")]
            if bad:
                found = f"{losses[bad[0]]} for the loss {bad[0]!r}"
                instead = f"lower --lr; the last checkpoint is in {out}"
                raise TrainingError(f"step {step}", found, "a finite number", instead)
            on_step(step, losses)
            if log is not None:
                for name, loss in losses.items():
                    log.add_scalar(f"loss/{name}", loss, step)
            look = step == steps or signals or step % samples_every == 0
            if look and patience:
                scores.append(recipe.score() or 0.0)
                if log is not None:
                    log.add_scalar("score", scores[-1], step)
            stop = bool(scores) and len(scores) - scores.index(min(scores)) > patience
            if look or stop or step % checkpoint_every == 0:
                _save(file, recipe, draw, step)
            if look:
                sheet = grid(recipe.samples(100), scale=2)
                with files.whole(out / "samples" / f"{step:06}.png") as picture:
                    sheet.save(picture, "PNG")
                if log is not None:
                    log.add_image(
                        "samples", np.asarray(sheet.convert("RGB")), step, dataformats="HWC"
                    )
            if signals:
                return Outcome(step, signals[0] if step < steps else 0, losses)
            if stop:
                return Outcome(step, 0, losses)
    return Outcome(max(first, steps), 0, losses)


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        needed = "the package tensorboard"
        instead = "pip install 'fastgan[tensorboard]'"
        raise ArgumentError("--tensorboard", "no TensorBoard", needed, instead) from error
    return SummaryWriter(folder)


def _save(file: Path, recipe: System, draw: torch.Generator, step: int) -> None:
    checkpoint = {
        "version": _VERSION,
        "recipe": recipe.name,
        "settings": dict(recipe.settings),
        "step": step,
        "draw": draw.get_state(),
        "state": {name: part.state_dict() for name, part in recipe.state.items()},
    }
    with files.replacing(file) as part:
        torch.save(checkpoint, part)


def _load(file: Path, recipe: System, draw: torch.Generator) -> int:
    """Put the checkpoint's state into `recipe` and `draw`; return the step that it was saved at."""
    try:
        checkpoint = torch.load(file, weights_only=True)
        known = isinstance(checkpoint, dict) and checkpoint.get("version") == _VERSION
    except Exception as error:  # whatever unpickling a damaged file raises
        raise TrainingError(str(file), f"no checkpoint ({error})"[:300], "a whole file") from error
    if not known or checkpoint["recipe"] != recipe.name:
        raise TrainingError(str(file), "another checkpoint", f"one of the recipe {recipe.name!r}")
    before, now = checkpoint["settings"], dict(recipe.settings)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            found = f"{name} = {now.get(name)}"
            needed = f"{before.get(name)}, as the run was started with"
            raise TrainingError(str(file), found, needed, "resume with the same settings")
    for name, part in recipe.state.items():
        part.load_state_dict(checkpoint["state"][name])
    draw.set_state(checkpoint["draw"])
    return int(checkpoint["step"])


@contextmanager
def _interrupt() -> Iterator[list[int]]:
    """The signals that came, of those that end a process: after one, a step is still finished. A
    second Ctrl-C ends at once.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield came
        return

    def handle(number: int, frame: object) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)

    with ExitStack() as after:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                after.callback(signal.signal, number, signal.signal(number, handle))
        yield came
