"""Coverage-guided fuzzing of `fastgan.model.file.read`, for long runs by hand.

    pip install atheris                       # Linux; not among the tests' dependencies
    python -m tests.fuzz.atheris_read --seeds out/corpus            # the models to begin with
    python -m tests.fuzz.atheris_read out/corpus -max_total_time=3600

Every other argument goes to libFuzzer (`-help=1` lists them). Whatever `read` raises that is none
of our errors, or has a library's exception for its cause, ends the run; so do a crash, 10 seconds
(on a busy machine: `-timeout=60`) and 4 GiB. The file that did it is left in the working directory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.mutate import corpus

LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-max_len=65536")


def write_seeds(folder: Path) -> int:
    """Write the models that onnx carries, each once, where libFuzzer looks; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = sorted({data for data in corpus() if len(data) <= 1 << 16}, key=len)
    for index, data in enumerate(seeds):
        (folder / f"{index:04}.onnx").write_bytes(data)
    return len(seeds)


def main() -> None:
    """Write the seeds, or fuzz."""
    if sys.argv[1:2] == ["--seeds"]:
        print(f"{write_seeds(Path(sys.argv[2]))} models in {sys.argv[2]}")
        return
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris (Linux); nothing was fuzzed")

    with atheris.instrument_imports(include=["fastgan.model.file"]):
        from fastgan.model.file import parse, read  # noqa: F401  (parse: instrumented as well)

    from fastgan.errors import FastganError

    def one(data: bytes) -> None:
        try:
            read(data)
        except FastganError as error:
            if error.__cause__ is not None:
                raise RuntimeError("a library's exception, where a check should be") from error

    atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
