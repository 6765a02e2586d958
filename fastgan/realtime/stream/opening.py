"""Opens a stream: checks what was asked for, prepares everything, and measures it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.realtime.stream import budget
from fastgan.realtime.stream.buffers import Frame
from fastgan.realtime.stream.controls import Controls, Settings
from fastgan.realtime.stream.options import StreamOptions
from fastgan.realtime.stream.renderers import (
    ImageRenderer,
    Prepare,
    Renderer,
    latent_renderer,
)
from fastgan.realtime.stream.stream import Stream

if TYPE_CHECKING:
    from fastgan.realtime.source import Source

#: Frames that are made before the first, and for how long at most.
_WARM_UP_FRAMES = 10
_WARM_UP_SECONDS = 2.0


def open_stream(
    generator: Source, make: Callable[..., dict[str, Any]], prepare: Prepare, options: StreamOptions
) -> Stream:
    """See `Generator.stream`.

    Args:
        make: makes every input of a batch, as `Inputs.make`.
        prepare: makes a run of the model ready.
    """
    renderer: Renderer
    signature, source = generator.signature, options.source
    if signature.image is not None:
        if options.latents is not None:
            raise ArgumentError("latents", "a model that takes images", "none: feed it images")
        renderer, source = _image_renderer(generator, options)
    else:
        for name, found in (("source", source), ("size", options.size)):
            if found is not None:
                raise ArgumentError(name, "a model that takes no images", "none")
        if signature.latent is None:
            raise ArgumentError("stream", "a model without a latent", "one with a latent or image")
        renderer = latent_renderer(generator, make, prepare, options)
    with torch.inference_mode():
        made = renderer.example()
    ring = [Frame(torch.empty_like(made)) for _ in range(options.buffers)]
    seconds = _prepare(renderer, ring)
    if options.budget_ms is not None:
        size, format = options.size, options.format
        sides = None if size is None else (size[0], size[1])
        budget.check(generator, seconds * 1e3, options.budget_ms, options.batch, format, sides)
    return Stream(
        renderer,
        ring,
        fps=options.fps,
        policy=options.policy,
        first=options.start,
        last=None if options.frames is None else options.start + options.frames,
        source=source,
    )


def _prepare(renderer: Renderer, ring: list[Frame]) -> float:
    """Run into every buffer until all is warm; the median seconds of a frame."""
    taken: list[float] = []
    began = perf_counter()
    while len(taken) < max(len(ring), _WARM_UP_FRAMES):
        frame = ring[len(taken) % len(ring)]
        at = perf_counter()
        renderer.render(frame.images)
        if frame.images.is_cuda:
            torch.cuda.synchronize(frame.images.device)
        renderer.mend()
        taken.append(perf_counter() - at)
        if len(taken) >= len(ring) and perf_counter() - began > _WARM_UP_SECONDS:
            break
    return sorted(taken)[len(taken) // 2]


def _image_renderer(
    generator: Source, options: StreamOptions
) -> tuple[ImageRenderer, Iterable[Any] | None]:
    """The renderer of an image-to-image model, and its source."""
    port, size, source = generator.signature.image, options.size, options.source
    assert port is not None
    if options.batch != 1:
        raise ArgumentError("batch", f"{options.batch} for a model that takes images", "1")
    channels = port.shape[1] if len(port.shape) == 4 and isinstance(port.shape[1], int) else 3
    if source is not None:
        frames = iter(source)
        try:
            first = next(frames)
        except StopIteration:
            raise ArgumentError("source", "no frames", "at least one") from None
        first = first if isinstance(first, Tensor) else torch.as_tensor(first)
        if first.dtype != torch.uint8 or first.dim() != 3:
            raise ArgumentError("source", f"{first.dtype} {tuple(first.shape)}", "uint8 [H, W, C]")
        size, channels = (first.shape[0], first.shape[1]), first.shape[2]
        source = chain((first,), frames)
    if size is None:
        fixed = tuple(side for side in port.shape[2:] if isinstance(side, int))
        if len(fixed) != 2:
            raise ArgumentError("size", "none", "(height, width) of the frames that will come")
        size = (fixed[0], fixed[1])
    needed = "(height, width) in pixels, or with the channels"
    sides = [
        arguments.whole("size", side, needed=needed)
        for side in arguments.several("size", size, needed)
    ]
    if len(sides) not in (2, 3):
        raise ArgumentError("size", repr(size), needed)
    height, width, channels = (*sides, channels)[:3]

    given = {
        "seed": options.seed,
        "labels": options.labels,
        "truncation": options.truncation,
        **options.inputs,
    }

    def run(image: Tensor, fed: Mapping[str, Any], out: Tensor | None) -> Tensor:
        return generator(image[None], format=options.format, out=out, **{**given, **fed})

    controls = Controls(Settings(None, None, 1), generator.signature)
    return ImageRenderer(run, controls, (height, width, channels), options), source
