"""Image-to-image: images of any size and kind through a model, and its results made to match.

A call goes through these steps:

1. `inputs.read` turns what was given into `Pixels`, one type for everything.
2. Images of one size and kind form a group (`run`). `ImageModel` knows which sizes the model takes,
   from its graph (`strides`) and by binding it at a few sizes, once (`fitting`); from that comes
   the grid of windows (`fastgan.images.tiling`): one, padded where needed, or many; or else the
   image is resized to the model's one size.
3. `Windows` turns a few windows at a time into the model's floats; their results go to their place
   in a `canvas` at once. So a large image is never held in floats.

`legal` finds a size to plan a model for when it is loaded. `folders` does what a call does, from
files to files.
"""

from __future__ import annotations

from fastgan.apply.model import ImageModel
from fastgan.apply.run import Options, apply, straight

__all__ = ["ImageModel", "Options", "apply", "straight"]
