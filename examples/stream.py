"""Frames on a schedule, as a game takes them: python examples/stream.py [MODEL] [SECONDS]"""

import sys

import torch

import fastgan
from fastgan.realtime import SeedPath


def show(image: torch.Tensor) -> None:
    """A game draws it here: uint8 [H, W, C], its own until the next frame."""


def main(model: str = "dcgan-digits", seconds: str = "2") -> None:
    generator = fastgan.load(model)
    walk = SeedPath((0, 1, 2), frames=30)  # from seed to seed in 30 frames, round and round
    frames = round(60 * float(seconds))
    with generator.stream(fps=60, latents=walk, frames=frames) as stream:
        for frame in stream:
            show(frame.images[0])
    print(stream.stats)


if __name__ == "__main__":
    main(*sys.argv[1:])
