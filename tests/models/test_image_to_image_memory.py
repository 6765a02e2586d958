"""A photo of 50 megapixels is never held in floats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fastgan
from tests import image_networks as networks

# In a process of its own, since the peak is that of a process.
SCRIPT = """
import resource, sys
import numpy as np
import fastgan

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

generator = fastgan.load(sys.argv[1], device="cpu")
height, width = map(int, sys.argv[2:4])
generator(np.zeros((600, 600, 3), np.uint8), format="pil", tile=512)  # all that comes but once
photo = np.zeros((height, width, 3), np.uint8)
photo[::2, ::3] = 200
before = peak()
image = generator(photo, format="pil")
assert image.size == (2 * width, 2 * height)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [(6144, 8192)])
def test_a_large_photo_takes_little_more_than_its_result(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    module = networks.seeded(networks.Espcn(), seed=1)
    fastgan.export(module, tmp_path / "x2.onnx", image=(3, "h", "w"), verify=False)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "x2.onnx"), *map(str, size)],
        capture_output=True,
        text=True,
        check=True,
    )
    result = 4 * (2 * size[0]) * (2 * size[1])  # Pillow: 4 bytes a pixel
    extra = int(run.stdout.split()[-1]) - result
    print(f"{size[1]} x {size[0]} at twice: {extra / 2**20:.0f} MiB beside the result")
    assert extra < 400 << 20  # floats of the result alone would take 2.3 GiB
