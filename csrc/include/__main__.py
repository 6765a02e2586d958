"""`python -m fastgan.include`: what a compiler is told of fastgan's headers and its library."""

from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":
    headers = Path(__file__).resolve().parent
    spec = find_spec("fastgan")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).resolve().parent
    flags = [f"-I{headers}"]
    if (folder / "libfastgan.so.1").exists():
        flags += [f"-L{folder}", "-l:libfastgan.so.1", f"-Wl,-rpath,{folder}"]
    print(*flags)
