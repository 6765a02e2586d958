"""`fastgan apply` on a video: its frames through the model, its sound as it is."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.apply.folders import together
from fastgan.cli import console
from fastgan.errors import ArgumentError
from fastgan.host import files

if TYPE_CHECKING:
    import torch

    from fastgan.generator import Generator
    from fastgan.realtime.outputs.film import Film, Shown
    from fastgan.realtime.outputs.video import VideoWriter

log = logging.getLogger("fastgan")


@dataclass
class Movie:
    """A video to make of another.

    Attributes:
        arguments: of the generator, for every frame.
        outscale: final size by size of the frame; None for the model's own.
        frames: how many were made.
        computing: seconds in the model.
    """

    source: Path
    target: Path
    arguments: dict[str, Any]
    outscale: float | None
    frames: int = 0
    computing: float = 0.0

    def make(self, generator: Generator) -> None:
        """Read, compute and write, each while the others go on; the file is there once it is whole.

        Raises:
            ArgumentError: it can't be read, or no model can make a video of it.
            OSError: it can't be written.
        """
        from fastgan.realtime.outputs.film import Film

        self.target.parent.mkdir(parents=True, exist_ok=True)
        files.sweep(self.target.parent)
        with (
            Film(self.source) as film,
            ThreadPoolExecutor(1, "fastgan-read") as reader,
            ThreadPoolExecutor(1, "fastgan-write") as writer,
            console.counting("frames", film.count or None) as told,
        ):
            frames = iter(film)
            group: list[Shown] = list(islice(frames, 1))
            if not group:
                raise ArgumentError(str(self.source), "no frame in it", "a video")
            together = self._together(generator, group[0].image)
            with self._opened(film) as sink:
                written: Future[None] | None = None
                while group:
                    ahead = reader.submit(lambda: list(islice(frames, together)))
                    images = self._compute(generator, group)
                    if written is not None:
                        written.result()
                    written = writer.submit(_write, sink, group, images)
                    self.frames += len(group)
                    told(self.frames)
                    group = ahead.result()
                assert written is not None
                written.result()

    def _opened(self, film: Film) -> VideoWriter:
        from fastgan.realtime.outputs.video import VideoWriter

        return VideoWriter(
            self.target, float(film.rate), sound=self.source, sound_start=film.begins, tracks=True,
            tick=film.tick, look=film.look,
        )  # fmt: skip

    def _together(self, generator: Generator, image: torch.Tensor) -> int:
        """How many frames go through the model at once."""
        if self.arguments["batch_size"]:
            return int(self.arguments["batch_size"])
        vertical, horizontal = generator.scale or (1.0, 1.0)
        values = image.numel() * max(1.0, vertical * horizontal)
        return together(int(4 * values), most=32)

    def _compute(self, generator: Generator, group: list[Shown]) -> torch.Tensor:
        """uint8 [n, H, W, C] of the frames of a group."""
        import torch

        began = time.perf_counter()
        frames = torch.stack([shown.image for shown in group])
        made: torch.Tensor = generator(frames, format="uint8", start=self.frames, **self.arguments)
        self.computing += time.perf_counter() - began
        if self.outscale is None:
            return made
        sides = [max(1, round(self.outscale * side)) for side in frames.shape[1:3]]
        return torch.stack([_resized(image, sides) for image in made.cpu()])


def wanted(source: Path) -> bool:
    """Whether what is given is a video, by its name."""
    from fastgan.realtime.outputs.film import SUFFIXES

    return source.suffix.lower() in SUFFIXES and not source.is_dir()


def target(source: Path, output: Path, suffix: str, ext: str) -> Path:
    """The file that is to be made, checked as far as no model is needed for it.

    Args:
        output: a folder, made later if missing; or a file with a suffix that can be written.
        suffix: put behind the name, after an underscore.

    Raises:
        ArgumentError: no file can be put there, or it is the source; or an option for pictures.
        BackendError: PyAV is not installed.
    """
    from fastgan.realtime.outputs.video import CODECS, check

    if ext != "auto":
        raise ArgumentError("--ext", f"{ext!r} for a video", "a name: --output result.mkv")
    made = output
    if output.is_dir() or not output.suffix:
        ending = source.suffix.lower() if source.suffix.lower() in CODECS else ".mp4"
        made = output / f"{source.stem}{f'_{suffix}' * bool(suffix)}{ending}"
    check(made, None)
    files.check_target("--output", made, (source,))
    return made


def _write(sink: VideoWriter, group: list[Shown], images: torch.Tensor) -> None:
    for shown, image in zip(group, images, strict=True):
        sink.write(image, shown.at)


def _resized(image: torch.Tensor, sides: list[int]) -> torch.Tensor:
    import numpy as np
    import torch
    from PIL.Image import Resampling

    from fastgan.images.pixels import to_pil

    made = to_pil(image[None])[0].resize((sides[1], sides[0]), Resampling.LANCZOS)
    array = np.array(made)
    return torch.from_numpy(array if array.ndim == 3 else array[:, :, None])
