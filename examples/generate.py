"""A thousand digits from a seed, as a sheet: python examples/generate.py [MODEL] [PICTURE]"""

import sys

import torch
from PIL import Image

import fastgan


def main(model: str = "dcgan-digits", picture: str = "digits.png") -> None:
    generator = fastgan.load(model)
    print(generator)  # which backend, device and precision
    images = generator.generate(1024, seed=7, format="uint8", progress=True)  # [n, H, W, C]

    n, height, width, channels = images.shape
    rows = images.reshape(32, n // 32, height, width, channels)
    sheet = torch.cat([torch.cat(list(row), dim=1) for row in rows])
    Image.fromarray(sheet.squeeze(-1).cpu().numpy()).save(picture)
    print(f"{n} images, sample 0 to {n - 1} of seed 7, in {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
