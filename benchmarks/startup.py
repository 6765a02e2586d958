"""How long it takes to begin: `import fastgan`, and from nothing to the first image.

    python -m benchmarks.startup

Processor time (user and system) of whole processes, less that of `import torch` alone. The three
kinds of process take turns, and are compared turn by turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.models import dcgan64

#: What is promised, in seconds beyond `import torch`.
PROMISED = {"import fastgan": 0.3, "load and first image": 1.5}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a promise is broken")
    options = parser.parse_args()

    source = dcgan64().source
    size = Path(source).stat().st_size / 1e6
    codes = {
        "import torch": "import torch",
        "import fastgan": "import torch, fastgan",
        "load and first image": f"import torch, fastgan; fastgan.load({source!r}).generate(1)",
    }
    for code in codes.values():
        seconds_of(code)  # files into the page cache, bytecode onto the disk
    turns = [{name: seconds_of(code) for name, code in codes.items()} for _ in range(options.turns)]

    print(f"processor seconds, {options.turns} turns; the model has {size:.1f} MB")
    kept = True
    for name in codes:
        alone = [turn[name] for turn in turns]
        line = f"{name:22} {statistics.median(alone):6.2f}"
        if name in PROMISED:
            beyond = sorted(turn[name] - turn["import torch"] for turn in turns)
            median = statistics.median(beyond)
            line += (
                f"   beyond import torch {median:5.2f} ({beyond[0]:.2f} to {beyond[-1]:.2f}), "
                f"promised {PROMISED[name]}"
            )
            kept = kept and median <= PROMISED[name]
        print(line)
    if options.json is not None:
        options.json.write_text(json.dumps({"turns": turns, "model_megabytes": size}) + "\n")
    return 1 if options.check and not kept else 0


def seconds_of(code: str) -> float:
    """Processor seconds of a fresh interpreter that runs `code`."""
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{code!r} failed")
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
