"""The pictures that ship beside the models, drawn again from the files as shipped.

python -m fastgan.recipes.evaluation.draw [NAME ...]
"""

from __future__ import annotations

import sys

import fastgan
from fastgan import models
from fastgan.recipes.evaluation.table import PICTURES


def main(*names: str) -> None:
    """Draw the pictures of these models; of all where none is named."""
    for name in names or tuple(PICTURES):
        generator = fastgan.load(name, precision="fp32")
        picture = PICTURES[name](generator)
        path = models.path(name).with_suffix(".png")
        picture.save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
