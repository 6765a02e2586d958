"""Every picture of a folder through a model: python examples/restore.py FOLDER OUT [MODEL]"""

import sys
from pathlib import Path

import fastgan


def main(folder: str, out: str, model: str = "superres-x4") -> None:
    generator = fastgan.load(model)
    Path(out).mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(folder).glob("*.png")):
        result = generator(path, format="pil")  # any size; alpha and 16-bit grey are kept
        result.save(Path(out) / path.name)
        print(f"{path.name}: {result.width} x {result.height}")


if __name__ == "__main__":
    main(*sys.argv[1:])
